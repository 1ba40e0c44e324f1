"""Bounds of a request that are no settings: each is tried at the bound and one above it."""

import socket
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from bt_model.errors import ContextLengthError
from bt_model.types import Turn
from server.bodies.dialogue import MessageParts, conversation_of
from server.bodies.openai import CompletionBody
from server.settings import Settings
from tests.fakes import MODEL
from tests.server.conftest import QUICK, error_of, question, running

USER = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}


def dialogue(count: int) -> list[dict[str, str]]:
    """Turn by turn, the last from the user."""
    return [USER if (count - number) % 2 else ANSWER for number in range(count)]


@pytest.mark.parametrize("excess", [0, 1])
def test_a_name_of_an_upload_has_up_to_255_characters(
    client: httpx.Client, unseen: bytes, excess: int
) -> None:
    name = "n" * (255 + excess)
    answer = client.post("/v1/video/uploads", content=unseen, params={"filename": name})
    if excess:
        assert (answer.status_code, error_of(answer)["param"]) == (400, "filename")
    else:
        assert answer.json()["filename"] == name


@pytest.mark.parametrize(("limit", "status"), [(0, 400), (1, 200), (100, 200), (101, 400)])
def test_a_page_has_1_to_1000_uploads(client: httpx.Client, limit: int, status: int) -> None:
    assert client.get("/v1/video/uploads", params={"limit": limit}).status_code == status


@pytest.mark.parametrize(("length", "status"), [(64, 404), (65, 400)])
def test_a_cursor_has_up_to_64_characters(client: httpx.Client, length: int, status: int) -> None:
    answer = client.get("/v1/video/uploads", params={"after": "x" * length})
    assert (answer.status_code, error_of(answer)["param"]) == (status, "after")


@pytest.mark.parametrize(("length", "code"), [(71, "video_not_found"), (72, "invalid_value")])
def test_a_name_of_a_video_has_up_to_71_characters(client: httpx.Client, length: int, code: str) -> None:
    assert error_of(client.post("/v1/video/frames", json={"video": "v" * length}))["code"] == code


@pytest.mark.parametrize(("count", "status"), [(511, 200), (513, 400)])
def test_a_dialogue_has_up_to_512_messages(client: httpx.Client, video: str, count: int, status: int) -> None:
    body = question(video) | {"messages": dialogue(count)}
    answer = client.post("/v1/video/chat", json=body)
    assert answer.status_code == status
    system = {"role": "system", "content": "be brief"}
    if status == 200:
        body["messages"] = [system, *dialogue(count)]
        assert client.post("/v1/video/chat", json=body).status_code == 200


@pytest.mark.parametrize(("length", "status"), [(262_144, 200), (262_145, 400)])
def test_a_message_has_up_to_262144_characters(
    client: httpx.Client, video: str, length: int, status: int
) -> None:
    assert client.post("/v1/video/chat", json=question(video, "a" * length)).status_code == status


@pytest.mark.parametrize(("count", "status"), [(64, 200), (65, 400)])
def test_a_message_has_up_to_64_parts(client: httpx.Client, count: int, status: int) -> None:
    parts = [{"type": "text", "text": "x"}] * count
    body = {"model": MODEL, "messages": [{"role": "user", "content": parts}]}
    assert client.post("/v1/chat/completions", json=body).status_code == status


def test_all_messages_together_have_up_to_a_mebi_of_characters() -> None:
    text = "a" * 1024 * 1024
    assert conversation_of([MessageParts("user", [text])]).turns == (Turn("user", text),)
    with pytest.raises(ContextLengthError):
        conversation_of([MessageParts("user", [text, "a"])])


@pytest.mark.parametrize(
    "changes",
    [
        {"stop": [1] * 100_000},
        {"messages": [1] * 100_000},
        {"messages": [USER | {"content": [1] * 100_000}]},
        {"messages": [USER | {"content": [1] * 64}] * 512},
        {"modalities": [1] * 100_000},
        {f"x{number}": 1 for number in range(100_000)},
        {"sampling": {f"x{number}": 1 for number in range(100_000)}},
    ],
)
def test_a_flood_of_wrong_values_is_a_few_errors(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        CompletionBody.model_validate({"model": MODEL, "messages": [USER]} | changes)
    assert caught.value.error_count() <= 2


@pytest.mark.parametrize(("count", "status"), [(8, 404), (9, 400)])
def test_up_to_8_models_are_asked(client: httpx.Client, video: str, count: int, status: int) -> None:
    body = question(video, model=[f"m{number}" for number in range(count)])
    assert client.post("/v1/video/chat", json=body).status_code == status


def test_a_body_for_which_there_is_no_room_is_not_read(tmp_path: Path) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path, "max_stored_bytes": 1000})
    head = b"POST /v1/video/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n"
    with running(settings) as server:
        url = httpx.URL(server.url)
        with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
            connection.sendall(head)
            assert connection.recv(1000).startswith(b"HTTP/1.1 507 ")
