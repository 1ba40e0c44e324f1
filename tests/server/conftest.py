"""A real server in a thread: uvicorn on a free port, decode children, and the fake engine's process."""

import asyncio
import contextlib
import secrets
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.connections.server import HttpServer
from server.deps import Services
from server.engine.supervisor import Command
from server.main import create_app, start_services
from server.settings import Settings
from tests import fakes
from tests.clips import write_clip
from tests.server.documented import Documented

QUICK = {"decode_workers": 1, "stream_hold_seconds": 0.3, "body_idle_seconds": 1.0, "grace_seconds": 1}


@dataclass
class RunningServer:
    """What a test may touch of a server: HTTP, and what its processes count."""

    url: str
    services: Services
    loop: asyncio.AbstractEventLoop
    stop: Callable[[], None] = lambda: None

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20, **options)  # pyright: ignore[reportArgumentType] - passed on

    def stats(self) -> dict[str, float]:
        return asyncio.run_coroutine_threadsafe(self.services.engine.stats(), self.loop).result(10).values


@contextmanager
def running(settings: Settings, command: Command | None = None) -> Generator[RunningServer]:
    """Serve for the time of the `with`."""
    started: list[tuple[Services, asyncio.AbstractEventLoop]] = []

    @asynccontextmanager
    async def start() -> AsyncGenerator[Services]:
        async with start_services(settings, command or fakes.command()) as services:
            started.append((services, asyncio.get_running_loop()))
            yield services

    app = Documented(create_app(settings, start))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = HttpServer(app, settings)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])), daemon=True)
        thread.start()
        try:
            url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            _wait_until_ready(url, thread)
            yield RunningServer(url, *started[0], partial(setattr, server, "should_exit", True))
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive(), "the server did not end"
    assert not app.undocumented, "the routes' documentation and server.problems.CODES name all that is sent"


def _wait_until_ready(url: str, thread: threading.Thread) -> None:
    while thread.is_alive():
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/ready", timeout=20).is_success:
                return
        thread.join(0.02)
    raise RuntimeError("the server did not start")


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.model_validate(QUICK | {"data_dir": tmp_path_factory.mktemp("data")})


@pytest.fixture(scope="session")
def server(settings: Settings) -> Iterator[RunningServer]:
    with running(settings) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good clip of 30 frames, 1.2 seconds."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4").read_bytes()


@pytest.fixture
def unseen(clip: bytes) -> bytes:
    """The clip with bytes that no other test uploads: a box that readers skip is put behind it."""
    return clip + (16).to_bytes(4, "big") + b"free" + secrets.token_bytes(8)


@pytest.fixture(scope="session")
def video(client: httpx.Client, clip: bytes) -> str:
    """The id of an upload."""
    answer = client.post("/v1/video/uploads", content=clip)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def question(video: str, text: str = "what happens here", **more: object) -> dict[str, object]:
    """A body for /v1/video/chat."""
    return {"video": video, "messages": [{"role": "user", "content": text}], **more}


def error_of(answer: httpx.Response) -> dict[str, str | None]:
    """The error object, which has the same four keys everywhere."""
    body = answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return body["error"]


def count(client: httpx.Client, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = (sample for family in families for sample in family.samples if sample.name == name)
    return sum(s.value for s in samples if labels.items() <= s.labels.items())
