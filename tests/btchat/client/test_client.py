"""Everything but uploads and answers, through both clients; and what they do when something is wrong."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save

import btchat
from btchat.client import BtchatAPIError, BtchatConnectionError, BtchatResponseError, TokenArray
from btchat.client.address import Address
from server.settings import Settings
from tests import fakes
from tests.btchat.client.conftest import Connect
from tests.server.conftest import QUICK, RunningServer, running

Handler = Callable[[httpx.Request], httpx.Response]
READY = {"status": "ok", "model": "m", "storage": "ok"}


def test_uploads_are_listed_and_deleted(client: Any, clip: Path) -> None:
    video = client.upload(clip)
    page = client.list(limit=1)
    assert (page.data[0], page.last_id, page.data[0].facts.codec) == (video, video.id, "h264")
    assert client.list(after=video.id).data == ()
    gone = client.delete(video.id)
    assert (gone.id, gone.deleted) == (video.id, True)
    assert gone.removed.file_bytes == clip.stat().st_size
    with pytest.raises(BtchatAPIError) as caught:
        client.get(video.id)
    assert (caught.value.status, caught.value.code) == (404, "video_not_found")


def test_frames_are_pictures(client: Any, clip: Path, tmp_path: Path) -> None:
    frames = client.frames(clip, sampling={"num_frames": 3})
    assert [frame.index for frame in frames.frames] == [5, 14, 24]
    assert len(frames) == 3
    assert all(picture.startswith(b"\xff\xd8\xff") for picture in frames.pictures())
    frames[1].save(tmp_path / "frame.jpg")
    assert (tmp_path / "frame.jpg").read_bytes() == frames[1].image
    assert client.frames(clip, sampling=frames.sampling).frames == frames.frames


def test_tokens_are_an_array(client: Any, clip: Path, tmp_path: Path) -> None:
    tokens = client.tokens(clip, sampling={"num_frames": 2})
    assert (tokens.shape, tokens.dtype, tokens.fingerprint) == ((3, 4), "float32", fakes.CARD.fingerprint)
    assert np.array_equal(tokens.array(), np.arange(12, dtype=np.float32).reshape(3, 4))
    tokens.save(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == tokens.content


def test_tokens_in_bfloat16_lose_nothing() -> None:
    numbers = torch.randn(5, 3).to(torch.bfloat16)
    array = TokenArray(save({"tokens": numbers}), (5, 3), "bfloat16", "f").array()
    assert np.array_equal(array, numbers.float().numpy())


def test_models_versions_and_readiness_are_typed(client: Any) -> None:
    first, *_others = client.models()
    assert (first.id, first.loaded, first.max_frames) == (fakes.MODEL, True, fakes.CARD.max_frames)
    assert client.model(fakes.MODEL) == first
    version = client.version()
    assert (version.model, version.models[0].fingerprint) == (fakes.MODEL, fakes.CARD.model_fingerprint)
    assert (client.ready().status, client.ready().storage) == ("ok", "ok")
    assert "btchat_engine_ready 1.0" in client.metrics()


@pytest.mark.parametrize(
    ("call", "status", "code", "param"),
    [
        (lambda c: c.get("vid_" + "0" * 32), 404, "video_not_found", "video_id"),
        (lambda c: c.model("gpt"), 404, "model_not_found", None),
        (lambda c: c.list(limit=1000), 400, "invalid_value", "limit"),
        (lambda c: c.chat("!too long"), 400, "context_length_exceeded", "messages"),
        (lambda c: c.chat("q", temperature=9.0), 400, "invalid_value", "temperature"),
        (lambda c: c.upload(b"no video"), 415, "unsupported_media", "video"),
        (lambda c: c.chat("q", model=fakes.BAD), 500, "bad_checkpoint", None),
    ],
)
def test_a_refusal_has_status_code_field_and_request_id(
    connect: Connect, server: RunningServer, call: Callable[[Any], object], status: int, code: str, param: str
) -> None:
    with pytest.raises(BtchatAPIError) as caught:
        call(connect(server.url, max_retries=0))
    error = caught.value
    assert (error.status, error.code) == (status, code)
    assert param is None or error.param == param
    assert error.request_id
    assert str(error) == error.message


def test_a_key_is_sent_and_a_wrong_one_refused(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret-key\n")
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path / "data", "api_keys_file": keys})
    with running(settings) as server:
        assert connect(server.url, api_key="secret-key").models()
        monkeypatch.setenv("BTCHAT_API_KEY", "secret-key")
        monkeypatch.setenv("BTCHAT_URL", f"{server.url}/v1/")
        assert connect(None).base_url == server.url
        assert connect(None).models()
        with pytest.raises(BtchatAPIError) as caught:
            connect(None, api_key="wrong-key").models()
        assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")


def test_a_server_that_is_not_there_is_told_with_what_to_do(connect: Connect) -> None:
    with pytest.raises(
        BtchatConnectionError, match=r"no server answers at http://127\.0\.0\.1:1 .*btchat serve"
    ):
        connect("http://127.0.0.1:1", max_retries=0).models()


def test_readiness_is_waited_for(connect: Connect) -> None:
    answers = iter([503, None, 503, 200])

    def handle(_request: httpx.Request) -> httpx.Response:
        if (status := next(answers)) is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, json=READY if status == 200 else {"error": {"message": "loading"}})

    client = connect("http://x", transport=httpx.MockTransport(handle))
    with pytest.raises(BtchatAPIError, match="loading"):
        client.ready()
    assert client.ready(wait=10).model == "m"


def scripted(*answers: httpx.Response | httpx.TransportError) -> tuple[httpx.MockTransport, list[float]]:
    """A server that answers so, one after the other, and when it was asked."""
    left, times = iter(answers), list[float]()

    def handle(_request: httpx.Request) -> httpx.Response:
        times.append(time.monotonic())
        answer = next(left)
        if isinstance(answer, httpx.TransportError):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    return httpx.MockTransport(handle), times


def refusal(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": "no", "code": "c"}}, headers=headers)


def good() -> httpx.Response:
    return httpx.Response(200, json={"data": []})


def in_two_seconds() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


@pytest.mark.parametrize(
    ("first", "least"),
    [
        (refusal(503), 0.3),
        (refusal(429, **{"retry-after": "1"}), 1.0),
        (refusal(409, **{"x-should-retry": "true"}), 0.3),
        (httpx.ConnectError("refused"), 0.3),
        (httpx.ReadError("reset"), 0.3),
        (httpx.RemoteProtocolError("gone"), 0.3),
    ],
    ids=str,
)
def test_what_may_pass_is_sent_again(connect: Connect, first: Any, least: float) -> None:
    transport, times = scripted(first, good())
    assert connect("http://x", transport=transport).models() == ()
    assert times[1] - times[0] >= least


def test_a_date_tells_when_to_come_again(connect: Connect) -> None:
    transport, times = scripted(refusal(503, **{"retry-after": in_two_seconds()}), good())
    assert connect("http://x", transport=transport).models() == ()
    assert 0.5 <= times[1] - times[0] <= 2.5


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400),
        refusal(404),
        refusal(507),
        refusal(503, **{"x-should-retry": "false"}),
        refusal(503, **{"retry-after": "3600"}),
    ],
    ids=lambda answer: f"{answer.status_code} {answer.headers.get('retry-after', '')}",
)
def test_what_does_not_pass_is_told_at_once(connect: Connect, answer: httpx.Response) -> None:
    transport, times = scripted(answer, good())
    with pytest.raises(BtchatAPIError):
        connect("http://x", transport=transport).models()
    assert len(times) == 1


def test_attempts_come_to_an_end(connect: Connect) -> None:
    transport, times = scripted(*[refusal(503) for _ in range(9)])
    with pytest.raises(BtchatAPIError) as caught:
        connect("http://x", transport=transport, max_retries=1).models()
    assert (len(times), caught.value.code) == (2, "c")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"data": [{}]}),
    ],
    ids=str,
)
def test_a_page_that_is_no_answer_is_told(connect: Connect, answer: httpx.Response) -> None:
    transport, _ = scripted(answer)
    with pytest.raises(BtchatResponseError, match="is it a btchat server"):
        connect("http://x", transport=transport).models()


def test_a_gateways_error_is_shown_as_it_is(connect: Connect) -> None:
    transport, _ = scripted(httpx.Response(418, text="a teapot"))
    with pytest.raises(BtchatAPIError, match="HTTP status 418: a teapot"):
        connect("http://x", transport=transport).models()


def test_fields_of_a_newer_server_are_kept(connect: Connect) -> None:
    newer = {"data": [{"id": "m", "loaded": True, "size": "7B", "nested": {"a": [1]}}], "next": None}
    transport, _ = scripted(httpx.Response(200, json=newer))
    (model,) = connect("http://x", transport=transport).models()
    assert model.model_extra == {"size": "7B", "nested": {"a": [1]}}
    assert model.size == "7B"
    with pytest.raises(ValueError, match="frozen"):
        model.id = "n"


def test_an_estimate_is_asked_for_with_the_dialogue_and_is_typed(connect: Connect) -> None:
    asked: list[dict[str, Any]] = []
    tokens = {"video": 65, "text": None, "prompt": None, "max_tokens": 9, "room": -1, "context": 64}
    problem = {"message": "too long", "code": "context_length_exceeded", "param": "messages"}
    body = {
        "model": "m", "fits": False, "problem": problem, "would_fit": [{"sampling": {"num_frames": 4}}],
        "tokens": tokens, "videos": [],
    }  # fmt: skip

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append({"path": request.url.path, **json.loads(request.content)})
        return httpx.Response(200, json=body)

    client = connect("http://x", transport=httpx.MockTransport(handle))
    estimate = client.estimate("vid_1", "what?", sampling={"fps": 2}, max_tokens=9)
    messages = [{"role": "user", "content": "what?"}]
    assert asked == [
        {
            "path": "/v1/video/estimate",
            "video": "vid_1",
            "messages": messages,
            "sampling": {"fps": 2},
            "max_tokens": 9,
        }
    ]
    assert (estimate.fits, estimate.problem.code, estimate.tokens.room) == (
        False,
        "context_length_exceeded",
        -1,
    )
    assert estimate.would_fit[0].sampling == {"num_frames": 4}


def stream_of(*lines: str) -> httpx.Response:
    return httpx.Response(200, text="\n\n".join(lines) + "\n\n")


def test_a_stream_that_breaks_off_is_no_answer(connect: Connect) -> None:
    chunk = '{"model": "m", "choices": [{"index": 0, "delta": {"content": "hello"}}]}'
    transport, _ = scripted(stream_of(f"data: {chunk}"))
    stream = connect("http://x", transport=transport).chat("q", model="m", stream=True)
    with pytest.raises(BtchatConnectionError, match="broke off after 5 characters"):
        list(stream)
    assert stream.text == "hello"


@pytest.mark.parametrize("data", ["[]", "{", '{"choices": 5}', '{"choices": [{}]}', "5"])
def test_an_event_that_cannot_be_read_is_told(connect: Connect, data: str) -> None:
    transport, _ = scripted(stream_of(f"data: {data}"))
    with pytest.raises(BtchatResponseError, match="an event of the stream cannot be read"):
        list(connect("http://x", transport=transport).chat("q", model="m", stream=True))


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x", "http://", "http://x?a=b", "http://x:port", "x"]
)
def test_an_address_that_is_none_is_told(connect: Connect, url: str) -> None:
    with pytest.raises(ValueError, match="allowed: http://HOST:PORT"):
        connect(url)


@pytest.mark.parametrize("key", ["ä", "a\nb", "a\x00"])
def test_a_key_that_no_header_holds_is_told_without_showing_it(connect: Connect, key: str) -> None:
    with pytest.raises(ValueError, match="api_key has characters") as caught:
        connect("http://x", api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("video", ["", "../models", "a/b", "a b", "vid?x"])
def test_what_is_no_id_makes_no_path(connect: Connect, video: str) -> None:
    client = connect("http://x", transport=httpx.MockTransport(lambda request: pytest.fail(str(request.url))))
    for call in (client.get, client.delete):
        with pytest.raises(ValueError, match="allowed: the id of an upload"):
            call(video)


def test_an_address_shows_no_key() -> None:
    address = Address.of("http://x", "secret-key")
    assert "secret" not in repr(address) + address.owner
    assert (Address.of("http://[::1]:8", None).is_local, Address.of("http://a.b", None).is_local) == (
        True,
        False,
    )


def test_a_pause_that_is_too_long_is_an_error(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BtchatConnectionError, match="did not answer in time"):
            connect(url, timeout=0.2, max_retries=0).models()


@pytest.fixture(scope="module")
def imported() -> Callable[[str], set[str]]:
    def run(code: str) -> set[str]:
        printing = f"import sys; {code}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", printing], capture_output=True, text=True, check=True)
        return {name.partition(".")[0] for name in done.stdout.split()}

    return run


def test_the_package_is_light_and_its_client_needs_no_server(imported: Callable[[str], set[str]]) -> None:
    assert imported("import btchat") & {"httpx", "pydantic", "bt_model", "server"} == set()
    heavy = {"torch", "numpy", "server", "lab", "fastapi", "starlette", "av", "transformers", "safetensors"}
    assert imported("from btchat import AsyncClient, Client; Client(); AsyncClient()") & heavy == set()


def test_no_other_name_is_in_the_package() -> None:
    assert btchat.Client.__name__ == "Client"
    with pytest.raises(AttributeError, match="no attribute 'Clients'"):
        btchat.Clients  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
