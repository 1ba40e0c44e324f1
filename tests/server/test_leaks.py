"""What a request that fails, or a client who leaves, may leave behind in web and engine process."""

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from server.settings import Settings
from tests import fakes
from tests.fakes import BAD, MODEL, OTHER, TWIN
from tests.leaks import children, no_leaks
from tests.server.conftest import QUICK, RunningServer, count, question, running
from tests.server.test_streams import until
from tests.server.test_uploads import upload

MANY = [MODEL, OTHER, TWIN]
FAILING: dict[str, dict[str, object]] = {
    "too long": {"text": "!too long"},
    "fails midway": {"text": "!fail after 1"},
    "always evicted": {"text": "!always evicted"},
    "no such model": {"model": "none"},
    "a model that does not load": {"model": [MODEL, BAD]},
    "frames that a model refuses": {"sampling": {"num_frames": fakes.REFUSED_FRAMES}},
    "frames that no model takes": {"sampling": {"num_frames": 100}},
    "a window behind the end": {"sampling": {"start": 99}},
    "several, of which one fails": {"text": f"!{OTHER} fails", "model": MANY},
    "several that all fail": {"text": "!too long", "model": MANY},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path_factory.mktemp("leaks")})
    with running(settings, fakes.command(MODEL, OTHER, TWIN, BAD)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def video(client: httpx.Client, unseen: bytes) -> str:
    """An upload that nobody has asked about."""
    return upload(client, unseen)


def body(video: str, name: str, *, stream: bool) -> dict[str, object]:
    values = dict(FAILING[name])
    return question(video, str(values.pop("text", "what happens")), stream=stream, **values)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", FAILING)
def test_a_question_that_fails_leaves_nothing(
    server: RunningServer, client: httpx.Client, video: str, name: str, stream: bool
) -> None:
    engine = server.services.engine
    client.post("/v1/video/chat", json=question(video, model=MANY))  # all are loaded
    with no_leaks(), no_leaks(engine.pid or 0):
        for _ in range(3):
            client.post("/v1/video/chat", json=body(video, name, stream=stream))
    assert until(lambda: engine.num_waiting == 0)
    assert until(lambda: server.services.admission.num_running == 0)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_an_upload_that_is_refused_leaves_nothing(client: httpx.Client, content: bytes) -> None:
    client.get("/health/live")
    with no_leaks():
        for _ in range(3):
            assert client.post("/v1/video/uploads", content=content).status_code in (415, 422)


def test_tokens_and_frames_leave_nothing(client: httpx.Client, server: RunningServer, video: str) -> None:
    client.post("/v1/video/tokens", json={"video": video})
    with no_leaks(), no_leaks(server.services.engine.pid or 0):
        for _ in range(5):
            client.post("/v1/video/tokens", json={"video": video})
            client.post("/v1/video/frames", json={"video": video})


@pytest.fixture
def child(server: RunningServer) -> Iterator[int]:
    """The server's one decode child, stopped: a decode that takes for ever."""
    decoder = server.services.decoder
    assert until(lambda: decoder.num_idle == 1)  # not one that is about to be replaced
    (child,) = decoder.pids
    os.kill(child, signal.SIGSTOP)
    yield child
    if child in children():
        os.kill(child, signal.SIGCONT)


@pytest.mark.parametrize("path", ["chat", "several", "stream", "tokens", "frames"])
def test_the_only_one_who_waits_for_a_decode_ends_it_by_leaving(
    server: RunningServer, client: httpx.Client, video: str, child: int, path: str
) -> None:
    decoded = count(client, "btchat_videos_decoded_total")
    bodies = {
        "chat": question(video),
        "several": question(video, model=MANY),
        "stream": question(video, stream=True),
        "tokens": {"video": video},
        "frames": {"video": video},
    }
    route = path if path in ("tokens", "frames") else "chat"
    with server.client() as leaving, pytest.raises(httpx.ReadTimeout):
        leaving.post(f"/v1/video/{route}", json=bodies[path], timeout=0.5)
    assert until(lambda: child not in children())
    assert until(lambda: server.services.admission.num_running == 0)
    assert count(client, "btchat_videos_decoded_total") == decoded
    assert client.post("/v1/video/chat", json=question(video)).status_code == 200  # by another child


def test_a_decode_goes_on_while_another_waits_for_it(
    server: RunningServer, client: httpx.Client, video: str, child: int
) -> None:
    before = count(client, "btchat_videos_decoded_total")
    asked = question(video, stream=True)
    with server.client() as staying, staying.stream("POST", "/v1/video/chat", json=asked) as answer:
        with server.client() as leaving, pytest.raises(httpx.ReadTimeout):
            leaving.post("/v1/video/chat", json=question(video), timeout=0.2)
        os.kill(child, signal.SIGCONT)
        assert answer.read().rstrip().endswith(b"[DONE]")
    assert count(client, "btchat_videos_decoded_total") == before + 1
