"""Videos inside of requests: on disk while they come, and for as long as somebody asks about them."""

import base64
import json
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bt_model.types import VideoFacts
from server.uploads.sources import lend
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.fakes import MODEL
from tests.server.conftest import RunningServer, error_of
from tests.server.test_streams import until

LABEL = "data:video/mp4;base64,"


def body_of(part: object) -> dict[str, object]:
    parts = [part, {"type": "text", "text": "what is it"}]
    return {"model": MODEL, "messages": [{"role": "user", "content": parts}]}


def video_part(url: str, kind: str = "video_url") -> dict[str, object]:
    return {"type": kind, kind: {"url": url}}


@contextmanager
def half_sent(server: RunningServer, url: str, num_bytes: int) -> Generator[socket.socket]:
    """A request whose body is announced as twice as long as its first `num_bytes`, which are sent."""
    body = json.dumps(body_of(video_part(url))).encode()[:num_bytes]
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {2 * num_bytes}\r\n\r\n"
    )
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port or 0), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        yield connection


def test_a_client_who_leaves_within_its_video_leaves_nothing(server: RunningServer, clip: bytes) -> None:
    store = server.services.store
    url = LABEL + base64.b64encode(clip + bytes(3_000_000)).decode()
    with half_sent(server, url, 2_000_000):
        until(lambda: list(store.incoming.iterdir()) != [] and store.incoming_bytes > 0)
    until(lambda: list(store.incoming.iterdir()) == [] and store.incoming_bytes == 0)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        (LABEL + "A" * 1_000_000, 415),
        (LABEL + base64.b64encode(b"\0\0\0\x18ftypmp42").decode() + "A" * 200_000 + "#" * 800_000, 400),
    ],
)
def test_what_is_no_video_is_refused_before_all_of_it_is_there(
    server: RunningServer, url: str, status: int
) -> None:
    with half_sent(server, url, 500_000) as connection:
        assert connection.recv(1000).startswith(f"HTTP/1.1 {status} ".encode())
    until(lambda: list(server.services.store.incoming.iterdir()) == [])


@pytest.mark.parametrize("size", [100, 2_000_000])
@pytest.mark.parametrize("kind", ["video_url", "image_url"])
@pytest.mark.parametrize("label", ["image/svg+xml", "text/plain;charset=utf-8"])
def test_data_of_any_size_that_is_not_base64_is_refused_as_such(
    client: httpx.Client, kind: str, label: str, size: int
) -> None:
    answer = client.post(
        "/v1/chat/completions", json=body_of(video_part(f"data:{label}," + "A" * size, kind))
    )
    assert (answer.status_code, error_of(answer)["param"]) == (400, f"messages[0].content[0].{kind}.url")


@pytest.mark.parametrize("text", [LABEL + "A" * 200_000, '{"url": "data:video/mp4;base64,AAAA"}'])
def test_text_that_looks_like_a_video_is_text(client: httpx.Client, text: str) -> None:
    answer = client.post("/v1/chat/completions", json=body_of({"type": "text", "text": text}))
    assert answer.json()["choices"][0]["message"]["content"].startswith(text.split(maxsplit=1)[0])
    answer = client.post(
        "/v1/chat/completions", json={"model": MODEL, "messages": [{"role": "user", "content": text}]}
    )
    assert answer.json()["choices"][0]["message"]["content"].startswith(text.split(maxsplit=1)[0])


HELLO: dict[str, object] = {"type": "text", "text": "x"}
MISPLACED: dict[str, Callable[[str], object]] = {
    "a field that is ignored": lambda url: body_of(HELLO) | {"metadata": {"url": url}},
    "a field of another kind of part": lambda url: body_of(HELLO | {"file": {"file_data": url}}),
}


@pytest.mark.parametrize("data", ["#", "AAAA", "A" * 5000])
@pytest.mark.parametrize("name", MISPLACED)
def test_data_that_nobody_asks_about_do_not_matter(
    client: httpx.Client, server: RunningServer, name: str, data: str
) -> None:
    answer = client.post("/v1/chat/completions", json=MISPLACED[name](LABEL + data))
    assert answer.status_code == 200, answer.text
    until(lambda: list(server.services.store.incoming.iterdir()) == [])


def test_an_unknown_field_with_a_video_is_refused_by_its_path(client: httpx.Client) -> None:
    part = {"type": "file", "file": {"url": LABEL + "ABCD" * 5000}}
    error = error_of(client.post("/v1/chat/completions", json=body_of(part)))
    assert (error["code"], error["param"]) == ("unknown_parameter", "messages[0].content[0].file.url")


def test_the_same_video_may_come_with_every_turn(client: httpx.Client, unseen: bytes) -> None:
    url = LABEL + base64.b64encode(unseen).decode()
    body = body_of(video_part(url))
    user = body["messages"][0]  # pyright: ignore[reportIndexIssue]
    messages = [user, {"role": "assistant", "content": "something"}, user]
    answer = client.post("/v1/chat/completions", json=body | {"messages": messages})
    assert answer.json()["receipt"]["video"] == "inline"
    other = body_of(video_part(LABEL + base64.b64encode(unseen + b"\0\0\0\x08free").decode()))
    messages = [user, {"role": "assistant", "content": "something"}, *other["messages"]]  # pyright: ignore[reportGeneralTypeIssues]
    answer = client.post("/v1/chat/completions", json=body | {"messages": messages})
    assert error_of(answer)["code"] == "too_many_videos"


async def test_a_file_outlives_its_request_while_it_is_read(tmp_path: Path, clip: bytes) -> None:
    async def content() -> AsyncGenerator[bytes]:
        yield clip

    store = await VideoStore.open(tmp_path, StoreLimits())
    async with AsyncExitStack() as lifetime:
        video = await lend(store, content(), "someone", lifetime)
        reading = video.reading()
        file = await reading.__aenter__()
    assert file.path.read_bytes() == clip
    await reading.__aexit__(None, None, None)
    assert not file.path.exists()
    await store.close()


async def test_a_second_decode_of_the_same_request_has_the_index_of_the_first(
    tmp_path: Path, clip: bytes
) -> None:
    async def content() -> AsyncGenerator[bytes]:
        yield clip

    store = await VideoStore.open(tmp_path, StoreLimits())
    facts = VideoFacts(96, 64, 30, 25.0, 1.2, 0, "h264", "mp4", has_audio=False)
    async with AsyncExitStack() as lifetime:
        video = await lend(store, content(), "someone", lifetime)
        for learnt, kept in ((b"", b""), (b"index", b"index"), (b"", b"index"), (b"i" * 10**6, b"index")):
            assert not await video.learn(facts, learnt, is_recounted=False)
            async with video.reading() as file:
                assert file.index == kept
        fewer = replace(facts, num_frames=20)
        assert await video.learn(fewer, b"index", is_recounted=True), "others saw 30 frames"
        assert not await video.learn(fewer, b"index", is_recounted=True)
    await store.close()
