"""The OpenAPI document and the server agree on which bodies are refused, beyond the types of fields."""

from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from server.bodies.examples import VIDEO
from tests.server.conftest import RunningServer

ASK = {"role": "user", "content": "a"}
CHAT, COMPLETE = "/v1/video/chat", "/v1/chat/completions"
RESPOND, ESTIMATE = "/v1/responses", "/v1/video/estimate"
LEAST: Mapping[str, dict[str, Any]] = {
    CHAT: {"video": None, "question": "a"},
    COMPLETE: {"messages": [ASK]},
    RESPOND: {"input": "a"},
    ESTIMATE: {"video": VIDEO},
}
NAMED = {"type": "json_schema", "name": "a", "schema": {"const": None}}
SEED = 2**63  # which the document rounds, as its numbers are floats


def part(**fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}, fields]}]}


TAKEN: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"question": None, "messages": "a"}),
    (CHAT, {"seed": SEED}),
    (CHAT, {"sampling": {"fps": 1, "strategy": "uniform_time"}, "video": VIDEO}),
    (COMPLETE, {"seed": -SEED}),
    (COMPLETE, {"logit_bias": {"12": 1}}),
    (COMPLETE, {"max_tokens": -1, "max_completion_tokens": 4}),
    (COMPLETE, {"echo": False}),
    (ESTIMATE, {"messages": [ASK], "question": None}),
    (ESTIMATE, {"question": "a"}),
    (RESPOND, {"tools": [{"type": "function"}], "tool_choice": "none"}),
    (RESPOND, {"max_output_tokens": -1}),
    (RESPOND, {"input": [{"type": "reasoning"}, {"type": "message", **ASK}]}),
    (RESPOND, part(type="input_video", file_id=VIDEO)),
    (RESPOND, {"video": VIDEO}),
    (RESPOND, {"text": {"format": {"type": "text", "name": None}}}),
    (RESPOND, {"text": {"format": NAMED}}),
]
REFUSED: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"question": None, "messages": " "}),
    (CHAT, {"question": None, "messages": [{"role": "system", "content": "a"}]}),
    (CHAT, {"seed": 2 * SEED}),
    (CHAT, {"sampling": {"fps": 1, "strategy": "middle"}, "video": VIDEO}),
    (COMPLETE, {"messages": [{"role": "assistant", "content": "a"}]}),
    (COMPLETE, {"logit_bias": {"a": 1}}),
    (COMPLETE, {"logit_bias": {"": 1}}),
    (COMPLETE, {"logit_bias": {str(number): 1 for number in range(1025)}}),
    (COMPLETE, {"max_tokens": 0, "max_completion_tokens": 4}),
    (COMPLETE, {"max_completion_tokens": 4097}),
    (COMPLETE, {"echo": 0}),
    (COMPLETE, {"skip_special_tokens": 1}),
    (ESTIMATE, {"messages": [ASK], "question": ""}),
    (ESTIMATE, {"question": " "}),
    (ESTIMATE, {"max_tokens": 0}),
    (RESPOND, {"input": " "}),
    (RESPOND, {"input": [{"type": "reasoning"}]}),
    (RESPOND, {"input": [{"type": "reasoning", "role": "user"}]}),
    (RESPOND, {"input": [{"content": "a"}, ASK]}),
    (RESPOND, {"input": [{"role": "system", "content": None}, ASK]}),
    (RESPOND, {"input": [{"type": "item_reference"}, ASK]}),
    (RESPOND, {"input": [{"role": "user", "content": ""}]}),
    (RESPOND, part(type="input_text")),
    (RESPOND, part(type="input_file", video_url=VIDEO)),
    (RESPOND, {"tools": [{"type": "function"}], "tool_choice": "auto"}),
    (RESPOND, {"tool_choice": "required"}),
    (RESPOND, {"max_output_tokens": 0}),
    (RESPOND, {"video": ""}),
    (RESPOND, {"text": {"format": {"type": "json_schema", "name": "a"}}}),
    (RESPOND, {"text": {"format": {"type": "text", "name": "a"}}}),
]
CASES = [(*each, True) for each in TAKEN] + [(*each, False) for each in REFUSED]


@pytest.mark.parametrize(
    ("path", "changes", "is_taken"), CASES, ids=[f"{p} {str(c)[:60]}" for p, c, _ in CASES]
)
def test_what_the_document_allows_is_answered(
    server: RunningServer, video: str, path: str, changes: dict[str, Any], is_taken: bool
) -> None:
    body = _with(LEAST[path] | changes, video)
    with server.client() as client:
        document = client.get("/openapi.json").json()
        answer = client.post(path, json=body)
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    says = Draft202012Validator({**schema, "components": document["components"]})
    assert (says.is_valid(body), answer.status_code) == (is_taken, 200 if is_taken else 400), answer.text


def _with(node: Any, video: str) -> Any:
    """The same with an upload that is there."""
    if isinstance(node, dict):
        return {name: _with(each, video) for name, each in node.items()}
    if isinstance(node, list):
        return [_with(each, video) for each in node]
    return video if node == VIDEO else node
