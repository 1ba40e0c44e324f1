"""What OpenAI's clients and gateways are told of errors: few statuses, and whether trying again is of use."""

import base64
import socket
from collections.abc import Iterator
from typing import Any, cast

import httpx
import openai
import pytest

from server.settings import Settings
from tests import fakes
from tests.clips import write_cut
from tests.server.conftest import QUICK, RunningServer, error_of, running

VIDEO = "vid_" + "0" * 32
HELLO: dict[str, Any] = {"role": "user", "content": "hello"}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a second model, which cannot be loaded."""
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path_factory.mktemp("data")})
    with running(settings, fakes.command(fakes.MODEL, fakes.BAD)) as server:
        yield server


def asked_about(url: str) -> list[Any]:
    part = {"type": "video_url", "video_url": {"url": url}}
    return [{"role": "user", "content": [part, {"type": "text", "text": "what is it"}]}]


def data_url(content: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(content).decode()


WRONG = (
    "an unknown video", "an unknown model", "a video that is cut off", "an empty video",
    "no video", "no text",
)  # fmt: skip


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[Any], int, str, str]]:
    """Model, messages, and the status, code and param of the error."""
    cut = write_cut(tmp_path_factory.mktemp("cut") / "cut.mp4", 0.6).read_bytes()
    where = "messages[0].content[0].video_url.url"
    return {
        "an unknown video": (fakes.MODEL, asked_about(VIDEO), 400, "video_not_found", where),
        "an unknown model": ("gpt", [HELLO], 400, "model_not_found", "model"),
        "a video that is cut off": (
            fakes.MODEL, asked_about(data_url(cut)), 400, "truncated_video", where,
        ),
        "an empty video": (fakes.MODEL, asked_about(data_url(b"")), 400, "empty_file", where),
        "no video": (fakes.MODEL, asked_about(data_url(b"no video")), 415, "unsupported_media", where),
        "no text": (fakes.MODEL, [HELLO | {"content": " "}], 400, "invalid_value", "messages[0].content"),
    }  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("stream", [False, True])
def test_openais_client_reads_what_is_wrong_with_a_request_from_few_statuses(
    server: RunningServer, wrong: dict[str, tuple[str, list[Any], int, str, str]], name: str, stream: bool
) -> None:
    model, messages, status, code, param = wrong[name]
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        api.chat.completions.create(model=model, messages=messages, stream=stream)
    error: Any = caught.value
    assert (error.status_code, error.code) == (status, code)
    assert error.param == param
    assert type(error) is (openai.BadRequestError if status == 400 else openai.APIStatusError)


def test_a_deleted_video_is_gone_for_a_question_and_not_found_as_an_upload(
    client: httpx.Client, unseen: bytes
) -> None:
    video = client.post("/v1/video/uploads", content=unseen).json()["id"]
    client.delete(f"/v1/video/uploads/{video}").raise_for_status()
    codes = {
        answer.status_code: error_of(answer)["code"]
        for answer in (
            client.post("/v1/chat/completions", json={"model": fakes.MODEL, "messages": asked_about(video)}),
            client.get(f"/v1/video/uploads/{video}"),
        )
    }
    assert codes.keys() == {400, 404}
    assert len(set(codes.values())) == 1


def test_our_own_route_keeps_its_statuses(client: httpx.Client) -> None:
    answer = client.post("/v1/video/chat", json={"video": VIDEO, "messages": [HELLO]})
    assert (answer.status_code, error_of(answer)["code"]) == (404, "video_not_found")


def test_another_host_is_forbidden(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json={}, headers={"host": "example.com"})
    assert (answer.status_code, error_of(answer)["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize(("path", "status"), [("/v1/chat/completions", 400), ("/v1/video/chat", 408)])
def test_a_body_that_stalls_is_told_so_at_once(server: RunningServer, path: str, status: int) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=10) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65536)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        while chunk := connection.recv(65536):
            answer += chunk
    assert b'"body_timeout"' in answer


@pytest.fixture
def tries() -> list[httpx.Request]:
    return []


@pytest.fixture
def patient(two: RunningServer, tries: list[httpx.Request]) -> Iterator[openai.OpenAI]:
    """A client that tries again, twice; each of its requests is counted."""
    with (
        httpx.Client(event_hooks={"request": [tries.append]}) as http,
        openai.OpenAI(base_url=f"{two.url}/v1", api_key="none", http_client=cast(Any, http)) as api,
    ):
        yield api


BROKEN: dict[str, tuple[str, list[Any], str, int]] = {
    "weights that do not load": (fakes.BAD, [HELLO], "bad_checkpoint", 1),
    "an unknown video": (fakes.MODEL, asked_about(VIDEO), "video_not_found", 1),
    "what may pass": (fakes.MODEL, [HELLO | {"content": f"!{fakes.MODEL} fails"}], "engine_error", 3),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_client_tries_again_where_that_is_of_use(
    patient: openai.OpenAI, tries: list[httpx.Request], name: str
) -> None:
    model, messages, code, number = BROKEN[name]
    with pytest.raises(openai.APIStatusError) as caught:
        patient.chat.completions.create(model=model, messages=messages)
    assert (caught.value.code, len(tries)) == (code, number)
    retry = caught.value.response.headers.get("x-should-retry")
    assert retry == ("false" if code == "bad_checkpoint" else None)
