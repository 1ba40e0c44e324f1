"""Faults in the engine of a whole server: not ready at once, started again, the same answers as before."""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from server.main import engine_command
from server.settings import Settings
from tests import tiny
from tests.clips import write_clip
from tests.server.conftest import QUICK, RunningServer, running
from tests.soak.secrets import SECRET

WATCHDOG_SECONDS = 2.0
NUM_AT_ONCE = 60
LIMITS = {"accelerator": 1.0, "vision": 1.0, "hang": WATCHDOG_SECONDS + 1}
SAID: dict[str, Any] = {"messages": [{"role": "user", "content": "what moves?"}], "max_tokens": 8, "seed": 1}


def faults() -> str:
    """How long the server was ready after each fault; then 60 questions of which any five lack memory."""
    with tempfile.TemporaryDirectory(prefix="btchat-soak-") as name:
        folder = Path(name)
        tiny.write_model_folder(folder)
        figures = [f"{fault} {_one(folder, fault):.2f} s" for fault in LIMITS]
        answered = f"{_memory(folder)} of {NUM_AT_ONCE} answered without memory"
        return f"not ready after {', '.join(figures)}; {answered}"


def _one(folder: Path, fault: str) -> float:
    """Seconds until the server is not ready."""
    path = folder / "fault"
    with _server(folder, path) as server, server.client() as client:
        video = client.post("/v1/video/uploads", content=write_clip(folder / "clip.mp4").read_bytes()).json()[
            "id"
        ]
        body = {"video": video, "model": tiny.MODEL, **SAID}
        before = _text(client.post("/v1/video/chat", json=body))
        path.write_text(fault)
        with ThreadPoolExecutor(4) as pool:
            begin = time.monotonic()
            other = {"sampling": {"num_frames": 3}}  # whose tokens are not known yet
            asked = [pool.submit(server_post, server, body | other) for _ in range(4)]
            seconds = _until(lambda: not client.get("/health/ready").is_success) - begin
            path.unlink()
            answers = [each.result() for each in asked]
        assert seconds <= LIMITS[fault], (fault, seconds)
        assert {answer.status_code for answer in answers} == {503}, [answer.text for answer in answers]
        assert not any(SECRET in answer.text or "CUDA" in answer.text for answer in answers)
        _until(lambda: client.get("/health/ready").is_success)
        assert _text(client.post("/v1/video/chat", json=body)) == before
        return seconds


def _memory(folder: Path) -> int:
    """How many of many questions at once are answered, and as they are alone."""
    path = folder / "fault"
    with _server(folder, path) as server, server.client() as client:
        body = {"model": tiny.MODEL, **SAID}
        before = _text(client.post("/v1/chat/completions", json=body))
        path.write_text("memory")
        with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
            posts = [
                pool.submit(server_post, server, body, "/v1/chat/completions") for _ in range(NUM_AT_ONCE)
            ]
            texts = [_text(post.result()) for post in posts]
        path.unlink()
        assert set(texts) == {before}
        return len(texts)


def _server(folder: Path, path: Path) -> Any:
    values = {"data_dir": folder / "data", "weights_dir": folder, "device": "cpu", "threads": 1}
    more = {"model": [tiny.MODEL], "watchdog_seconds": WATCHDOG_SECONDS}
    settings = Settings.model_validate(QUICK | values | more)
    command = engine_command(settings)

    def faulty(fd: int) -> list[str]:
        python, _, _, *arguments = command(fd)
        return [python, "-m", "tests.soak.faulty_engine", str(path), *arguments]

    return running(settings, faulty)


def server_post(server: RunningServer, body: dict[str, Any], route: str = "/v1/video/chat") -> httpx.Response:
    with server.client() as client:
        return client.post(route, json=body, timeout=60)


def _text(answer: httpx.Response) -> str:
    assert answer.is_success, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def _until(is_so: Callable[[], bool]) -> float:
    """The time at which it is."""
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)
    return time.monotonic()
