"""Every refusal: a status, a code, the field, and what is allowed; in one shape on all routes."""

import json
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import httpx
import pytest

from server.settings import Settings
from tests import fakes
from tests.server.conftest import QUICK, RunningServer, error_of, question, running

FIRST, SECOND, THIRD = "first-key-of-ours", "second-key-of-ours", "third-key-of-ours"
VIDEO = "vid_" + "0" * 32
USER = {"role": "user", "content": "hello"}

# body of /v1/video/chat (its video is filled in), status, code, param
REFUSED: dict[str, tuple[dict[str, object], int, str, str]] = {
    "unknown video": ({"video": VIDEO}, 404, "video_not_found", "video"),
    "unknown model": ({"model": "other"}, 404, "model_not_found", "model"),
    "unknown field": ({"frames": 1}, 400, "unknown_parameter", "frames"),
    "tools": ({"tools": []}, 400, "unsupported_parameter", "tools"),
    "unknown sampling field": ({"sampling": {"frames": 1}}, 400, "unknown_parameter", "sampling.frames"),
    "no frames": ({"sampling": {"num_frames": 0}}, 400, "invalid_value", "sampling.num_frames"),
    "minus one frame": ({"sampling": {"num_frames": -1}}, 400, "invalid_value", "sampling.num_frames"),
    "too many frames": ({"sampling": {"num_frames": 9}}, 400, "invalid_value", "sampling.num_frames"),
    "frames that the model refuses": (
        {"sampling": {"num_frames": fakes.REFUSED_FRAMES}},
        400,
        "invalid_value",
        "sampling.num_frames",
    ),
    "count and rate": ({"sampling": {"num_frames": 2, "fps": 1}}, 400, "invalid_value", "sampling"),
    "a bound without a rate": ({"sampling": {"max_frames": 2}}, 400, "invalid_value", "sampling.max_frames"),
    "a bound beyond the model's": (
        {"sampling": {"fps": 25, "max_frames": 9}},
        400,
        "invalid_value",
        "sampling.max_frames",
    ),
    "too many by rate": ({"sampling": {"fps": 25}}, 400, "invalid_value", "sampling.fps"),
    "window behind the end": ({"sampling": {"start": 99}}, 400, "invalid_value", "sampling.start"),
    "end before start": ({"sampling": {"start": 2, "end": 1}}, 400, "invalid_value", "sampling.end"),
    "strategy": ({"sampling": {"strategy": "best"}}, 400, "invalid_value", "sampling.strategy"),
    "a number as text": ({"sampling": {"num_frames": "3"}}, 400, "invalid_value", "sampling.num_frames"),
    "temperature": ({"temperature": 2.1}, 400, "invalid_value", "temperature"),
    "top_p": ({"top_p": 0}, 400, "invalid_value", "top_p"),
    "max_tokens": ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
    "stop": ({"stop": ["a", "b", "c", "d", "e"]}, 400, "invalid_value", "stop"),
    "huge seed": ({"seed": 2**64}, 400, "invalid_value", "seed"),
    "seed of 400 digits": ({"seed": 10**400}, 400, "invalid_value", "seed"),
    "max_tokens of 400 digits": ({"max_tokens": 10**400}, 400, "invalid_value", "max_tokens"),
    "vanishing penalty": ({"repetition_penalty": 1e-50}, 400, "invalid_value", "repetition_penalty"),
    "half a character": ({"stop": ["\ud800"]}, 400, "invalid_value", "stop"),
    "no messages": ({"messages": []}, 400, "invalid_value", "messages"),
    "too many messages": ({"messages": [USER] * 513}, 400, "invalid_value", "messages"),
    "role": ({"messages": [{"role": "tool", "content": "x"}]}, 400, "invalid_value", "messages[0].role"),
    "blank": ({"messages": [USER | {"content": " \n"}]}, 400, "invalid_value", "messages[0].content"),
    "no question": ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "invalid_value", "messages"),
    "too long": ({"messages": [USER | {"content": "!too long"}]}, 400, "context_length_exceeded", "messages"),
    "very long": (
        {"messages": [USER | {"content": "a" * 262_000}] * 5},
        413,
        "body_too_large",
        "body",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_chat_body_is_refused(client: httpx.Client, video: str, name: str) -> None:
    changes, status, code, param = REFUSED[name]
    content = json.dumps(question(video) | changes)  # escapes what UTF-8 cannot carry
    answer = client.post("/v1/video/chat", content=content, headers={"content-type": "application/json"})
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)


@pytest.mark.parametrize("name", ["too long", "unknown model", "count and rate", "window behind the end"])
def test_a_stream_is_refused_with_a_status_too(client: httpx.Client, video: str, name: str) -> None:
    changes, status, code, _ = REFUSED[name]
    answer = client.post("/v1/video/chat", json=question(video, stream=True) | changes)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(client: httpx.Client, video: str, value: str) -> None:
    content = json.dumps(question(video, temperature=0.125)).replace("0.125", value)
    answer = client.post("/v1/video/chat", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "temperature")


def test_half_a_character_is_refused(client: httpx.Client, video: str) -> None:
    content = json.dumps(question(video, "\ud800"))
    answer = client.post("/v1/video/chat", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "messages[0].content")


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"\xff\xfe{}", b"[" * 100_000, b'"text"', b"{'a': 1}"])
def test_a_body_that_is_no_json_object_is_400(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/v1/video/chat", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, error_of(answer)["type"]) == (400, "invalid_request_error")


def test_a_message_names_value_and_what_is_allowed(client: httpx.Client, video: str) -> None:
    answer = client.post("/v1/video/chat", json=question(video, temperature=7.5))
    message = str(error_of(answer)["message"])
    assert "7.5" in message
    assert "0.0 to 2.0" in message


def test_an_unknown_model_is_told_which_there_are(client: httpx.Client, video: str) -> None:
    answer = client.post("/v1/video/chat", json=question(video, model="gpt"))
    assert fakes.MODEL in str(error_of(answer)["message"])


def test_an_unknown_route_is_404_in_the_same_shape(client: httpx.Client) -> None:
    answer = client.get("/v1/nothing")
    assert (answer.status_code, error_of(answer)["code"]) == (404, "not_found")


def test_a_wrong_method_is_405_in_the_same_shape(client: httpx.Client) -> None:
    answer = client.put("/v1/video/chat")
    assert (answer.status_code, error_of(answer)["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_a_wrong_method_is_told_those_of_every_route_with_its_path(client: httpx.Client) -> None:
    def allowed(path: str) -> str:
        answer = client.patch(path)
        assert answer.headers["allow"] in str(error_of(answer)["message"])
        return answer.headers["allow"]

    assert allowed("/v1/video/uploads") == "GET, POST, PUT"
    assert allowed("/v1/video/uploads/x") == "GET, HEAD, PUT, DELETE"
    assert allowed("/openapi.json") == "GET, HEAD"


def test_a_bad_query_is_400(client: httpx.Client) -> None:
    answer = client.get("/v1/video/uploads", params={"limit": 0})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "limit")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with tight bounds and three keys."""
    folder = tmp_path_factory.mktemp("small")
    keys = folder / "keys"
    keys.write_text(f"# three tenants\n{FIRST}\n\n{SECOND}\n{THIRD}\n")
    bounds = {"max_json_bytes": 2000, "max_chat_bytes": 4000, "max_requests": 2, "max_requests_per_key": 1}
    values = QUICK | bounds | {"data_dir": folder / "data", "api_keys_file": keys}
    with running(Settings.model_validate(values)) as server:
        yield server


def keyed(server: RunningServer, key: str = FIRST) -> httpx.Client:
    return server.client(headers={"authorization": f"Bearer {key}"})


@pytest.mark.parametrize("path", ["/v1/video/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("excess", [0, 1])
def test_the_json_limit_is_exact(small: RunningServer, path: str, excess: int) -> None:
    body = json.dumps({"x": 1}).ljust(2000 + excess).encode()
    with keyed(small) as client:
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == (413 if excess else 400)
    assert error_of(answer)["code"] == ("body_too_large" if excess else "missing_required_parameter")


@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize("is_declared", [True, False])
def test_a_body_with_its_video_has_a_limit_of_its_own(
    small: RunningServer, excess: int, is_declared: bool
) -> None:
    head, tail = b'{"x":{"url":"data:video/mp4;base64,', b'"}}'
    body = head + b"A" * (4000 + excess - len(head + tail)) + tail
    with keyed(small) as client:
        headers = {"content-type": "application/json"}
        content = body if is_declared else iter([body])
        answer = client.post("/v1/chat/completions", content=content, headers=headers)
    assert error_of(answer)["code"] == ("body_too_large" if excess else "missing_required_parameter")


def test_a_declared_length_over_the_limit_is_refused_before_the_body_comes(small: RunningServer) -> None:
    head = f"POST /v1/video/uploads HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {FIRST}\r\n"
    with socket.create_connection(("127.0.0.1", int(small.url.rsplit(":", 1)[1])), timeout=10) as sock:
        sock.sendall(f"{head}Content-Length: {2**40}\r\n\r\n".encode())
        assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("header", [None, "Bearer wrong-key-of-ours", "Basic first-key-of-ours", "Bearer"])
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/version", "/nothing"])
def test_every_route_needs_a_key(small: RunningServer, path: str, header: str | None) -> None:
    with small.client(headers={"authorization": header} if header else {}) as client:
        answer = client.get(path)
    assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health_needs_no_key(small: RunningServer, path: str) -> None:
    with small.client() as client:
        assert client.get(path).status_code == 200


def test_an_unknown_caller_is_refused_before_its_body_is_read(small: RunningServer) -> None:
    sent: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number in range(1000):
            sent.append(number)
            yield bytes(65536)

    with small.client() as client:
        answer = client.post("/v1/video/uploads", content=chunks())
    assert answer.status_code == 401
    assert len(sent) < 500  # what the socket buffers took


@pytest.mark.parametrize(("key", "is_closed"), [(None, True), (FIRST, False)])
def test_a_connection_is_closed_on_who_sends_what_nobody_reads(
    small: RunningServer, key: str | None, is_closed: bool
) -> None:
    """A short body is read and dropped, where a right key came with it."""
    with small.client(headers={"authorization": f"Bearer {key}"} if key else {}) as client:
        short = client.post("/v1/video/uploads", content=b"no video")
        long = client.post("/v1/video/uploads", content=bytes(5_000_000))
    assert [answer.status_code for answer in (short, long)] == ([401, 401] if key is None else [415, 415])
    assert ("close" in short.headers.get("connection", "")) is is_closed
    assert "close" in long.headers.get("connection", "")


def test_a_key_never_sees_the_videos_of_another(small: RunningServer, clip: bytes) -> None:
    with keyed(small) as mine, keyed(small, SECOND) as theirs:
        video = mine.post("/v1/video/uploads", content=clip).json()["id"]
        assert theirs.get(f"/v1/video/uploads/{video}").status_code == 404
        assert theirs.delete(f"/v1/video/uploads/{video}").status_code == 404
        assert video not in [each["id"] for each in theirs.get("/v1/video/uploads").json()["data"]]
        assert mine.get(f"/v1/video/uploads/{video}").status_code == 200


def test_a_key_never_uses_what_was_computed_for_another(small: RunningServer, unseen: bytes) -> None:
    caches: list[str] = []
    for key in (FIRST, SECOND):
        with keyed(small, key) as client:
            video = client.post("/v1/video/uploads", content=unseen).json()["id"]
            answer = client.post("/v1/video/tokens", json={"video": video, "format": "json"}).json()
            caches.append(answer["receipt"]["cache"]["features"])
    assert caches == ["miss", "miss"]


@contextmanager
def busy(server: RunningServer, key: str, clip: bytes) -> Generator[None]:
    """One slow answer under way for this key."""
    with keyed(server, key) as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        with client.stream("POST", "/v1/video/chat", json=question(video, "!slow", stream=True)) as answer:
            lines = answer.iter_lines()
            next(lines)
            yield


def test_a_key_with_all_its_requests_running_is_429(small: RunningServer, clip: bytes) -> None:
    with busy(small, FIRST, clip), keyed(small, FIRST) as client:
        video = client.get("/v1/video/uploads").json()["data"][0]["id"]
        answer = client.post("/v1/video/chat", json=question(video))
    assert (answer.status_code, error_of(answer)["code"]) == (429, "rate_limited")
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_more_choices_than_a_key_may_have_at_once_are_400_and_not_429_for_ever(small: RunningServer) -> None:
    with keyed(small) as client:
        answer = client.post("/v1/chat/completions", json={"model": fakes.MODEL, "messages": [USER], "n": 2})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "n")


def test_a_full_server_is_503(small: RunningServer, clip: bytes) -> None:
    with keyed(small, THIRD) as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        with busy(small, FIRST, clip), busy(small, SECOND, clip):
            answers = [
                client.post("/v1/video/chat", json=question(video)),
                client.post("/v1/video/uploads", content=clip),
            ]
    for answer in answers:
        assert (answer.status_code, error_of(answer)["code"]) == (503, "overloaded")
        assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_metrics_have_no_label_from_a_path(client: httpx.Client) -> None:
    for number in range(20):
        client.get(f"/stray/{number}")
        client.request(f"X{number}", "/stray")
    text = client.get("/metrics").text
    assert "stray" not in text
    assert 'method="X' not in text


def test_headers_without_an_end_are_refused(server: RunningServer) -> None:
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port or 0), timeout=20) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\nlong: " + b"a" * 40_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
