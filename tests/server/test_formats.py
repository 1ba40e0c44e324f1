"""`response_format` on both routes."""

from typing import Any

import httpx
import pytest

from tests import fakes
from tests.server.conftest import RunningServer, count, error_of

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def by_schema(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}


def asked(server: RunningServer, route: str, video: str, response_format: Any) -> httpx.Response:
    if route == "completions":
        parts = [{"type": "video_url", "video_url": {"url": video}}, {"type": "text", "text": "what"}]
        body: dict[str, Any] = {"model": fakes.MODEL, "messages": [{"role": "user", "content": parts}]}
        path = "/v1/chat/completions"
    else:
        body = {"video": video, "messages": [{"role": "user", "content": "what"}]}
        path = "/v1/video/chat"
    with server.client() as client:
        return client.post(path, json=body | {"response_format": response_format})


ROUTES = pytest.mark.parametrize("route", ["completions", "chat"])


@ROUTES
@pytest.mark.parametrize(
    ("response_format", "num_compiled"),
    [
        (None, 0),
        ({"type": "text"}, 0),
        ({"type": "json_object"}, 1),
        (by_schema(SCHEMA), 1),
        (by_schema(SCHEMA, strict=True, description="numbers"), 1),
    ],
)
def test_a_schema_is_compiled_once_before_the_answer(
    server: RunningServer, video: str, route: str, response_format: Any, num_compiled: int
) -> None:
    before = server.stats()["fake_compiled_total"]
    assert asked(server, route, video, response_format).is_success
    assert server.stats()["fake_compiled_total"] - before == num_compiled


@ROUTES
@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_object", "json_schema": {"name": "n", "schema": {}}}, "response_format.json_schema"),
        (by_schema([1]), "response_format.json_schema.schema"),
        (by_schema(SCHEMA, more=1), "response_format.json_schema.more"),
        (by_schema(SCHEMA) | {"more": 1}, "response_format.more"),
        (
            {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}},
            "response_format.json_schema.name",
        ),
        (by_schema({"title": "a" * 70_000}), "response_format.json_schema.schema"),
    ],
)
def test_what_is_no_format_is_refused_with_its_place(
    server: RunningServer, video: str, route: str, response_format: Any, param: str
) -> None:
    before = server.stats()["fake_asked_total"]
    answer = asked(server, route, video, response_format)
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)
    assert server.stats()["fake_asked_total"] == before


@ROUTES
def test_a_schema_that_cannot_be_followed_is_refused_before_the_video_is_decoded(
    server: RunningServer, client: httpx.Client, unseen: bytes, route: str
) -> None:
    video = client.post("/v1/video/uploads", content=unseen).json()["id"]
    before = count(client, "btchat_videos_decoded_total")
    answer = asked(server, route, video, by_schema({"title": fakes.REFUSED_SCHEMA}))
    assert answer.status_code == 400
    assert error_of(answer) | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": "response_format.json_schema.schema",
        "code": "invalid_value",
    }
    assert count(client, "btchat_videos_decoded_total") == before
    assert asked(server, route, video, None).is_success
    assert count(client, "btchat_videos_decoded_total") == before + 1
