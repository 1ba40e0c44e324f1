"""What programs send out of habit: taken where it changes nothing, else refused in words."""

from typing import Any

import httpx
import openai
import pytest

from tests import fakes
from tests.server.conftest import RunningServer, error_of

QUESTION = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
TEXT = {"type": "text", "text": "hello"}
PICTURE = {"type": "image_url", "image_url": {"url": "vid_", "detail": "banana"}}


def said(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


ECHOED: dict[str, dict[str, Any]] = {
    "id": {"id": "msg_1"},
    "thoughts": {"reasoning_content": "so", "reasoning": "so"},
    "a mark of a cache": {"cache_control": {"type": "ephemeral"}},
    "annotations": {"annotations": [{"type": "url_citation"}], "refusal": None, "audio": None},
    "tools that were not called": {"tool_calls": [], "function_call": None, "name": "a", "uuid": "b"},
}
TAKEN: dict[str, dict[str, Any]] = {
    "a slider": {"min_p": 0.05},
    "penalties": {"frequency_penalty": 0.5, "presence_penalty": -0.5},
    "a load test": {"ignore_eos": True, "max_tokens": 4},
    "tools that are not to be called": {"tools": [TOOL], "tool_choice": "none"},
    "functions that are not": {"functions": [TOOL["function"]], "function_call": "none"},
    "no tools": {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
    "a template without settings": {"chat_template_kwargs": {}},
    "special tokens": {"skip_special_tokens": True, "spaces_between_special_tokens": True},
    "no limit": {"max_tokens": -1, "max_completion_tokens": -1},
    "null": {"max_tokens": None, "max_completion_tokens": None, "n": None, "stop": None, "seed": None},
    "a new answer": {"add_generation_prompt": True, "continue_final_message": False},
    "who asks": {"user": "me", "store": True, "metadata": {"a": "b"}, "service_tier": "auto"},
    "how hard to think": {"reasoning_effort": "low", "verbosity": "low"},
    "a server's defaults": {"echo": False, "use_beam_search": False, "include_stop_str_in_output": False},
    "a mark in a part": said(TEXT | {"cache_control": {}, "uuid": "a"}),
    "the answer goes on": {
        "messages": [QUESTION, {"role": "assistant", "content": "hello"}],
        "add_generation_prompt": False, "continue_final_message": True,
    },
}  # fmt: skip


def posted(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": fakes.MODEL, "messages": [QUESTION]} | changes)


@pytest.mark.parametrize("name", ECHOED)
def test_what_is_echoed_with_a_message_changes_nothing(client: httpx.Client, video: str, name: str) -> None:
    messages = [QUESTION, ANSWER | ECHOED[name], QUESTION | {"content": "and now"}]
    answer = posted(client, messages=messages).raise_for_status().json()
    assert answer["choices"][0]["message"]["content"] == "and now "
    own = client.post("/v1/video/chat", json={"video": video, "messages": messages})
    assert own.raise_for_status().json()["choices"][0]["message"]["content"] == "and now "


@pytest.mark.parametrize("name", TAKEN)
def test_what_changes_nothing_is_taken(client: httpx.Client, name: str) -> None:
    body = posted(client, **TAKEN[name]).raise_for_status().json()
    assert body["choices"][0]["message"]["content"] == "hello "


def test_a_model_may_be_left_out(client: httpx.Client) -> None:
    body = client.post("/v1/chat/completions", json={"messages": [QUESTION]}).raise_for_status().json()
    assert body["model"] == fakes.MODEL


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "tools": ({"tools": [TOOL]}, "tools are not offered by this server; leave them out"),
    "tool_choice": ({"tools": [TOOL], "tool_choice": "required"}, "tools are not offered"),
    "functions": ({"functions": [TOOL]}, "tools are not offered"),
    "audio": ({"audio": {"voice": "alloy"}, "modalities": ["text"]}, "spoken answers are not offered"),
    "modalities": ({"modalities": ["text", "audio"]}, "answers other than text are not offered"),
    "web_search_options": ({"web_search_options": {}}, "searching the web is not offered by this server"),
    "chat_template_kwargs": ({"chat_template_kwargs": {"a": 1}}, "settings of a chat template"),
    "skip_special_tokens": ({"skip_special_tokens": False}, "special tokens are not shown by this server"),
    "best_of": ({"best_of": 3}, "best_of is not offered by this server; n gives several answers"),
    "chat_template": ({"chat_template": "{{ x }}"}, "a chat template is not offered"),
    "messages[0].tool_calls": (
        {"messages": [ANSWER | {"tool_calls": [TOOL]}, QUESTION]}, "tools are not offered by this server",
    ),
}  # fmt: skip


@pytest.mark.parametrize("param", REFUSED)
def test_what_is_not_offered_is_refused_in_words(server: RunningServer, param: str) -> None:
    changes, words = REFUSED[param]
    body: dict[str, Any] = {"model": fakes.MODEL, "messages": [QUESTION]} | changes
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        api.chat.completions.create(model=body["model"], messages=body["messages"], extra_body=changes)
    error = caught.value
    assert (error.code, str(error.param).split("[")[0]) == (
        "unsupported_parameter",
        param.split("[", maxsplit=1)[0],
    )
    assert words in error.message
    assert "Input should" not in error.message


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "messages[0].role": (
        {"messages": [QUESTION | {"role": "foo"}]},
        "invalid_value",
        "messages[0].role is 'foo'; allowed: system, developer, user, assistant",
    ),
    "n": ({"n": 9}, "invalid_value", "n is 9; allowed: up to 8"),
    "stream": ({"stream": "yes"}, "invalid_value", "stream is 'yes'; allowed: true or false"),
    "max_tokens": ({"max_tokens": "5"}, "invalid_value", "max_tokens is '5'; allowed: a whole number"),
    "stop": ({"stop": 3}, "invalid_value", "stop is 3; allowed: text or a list"),
    "messages": ({"messages": "hi"}, "invalid_value", "messages is 'hi'; allowed: a list"),
    "messages[0].content": (
        {"messages": [QUESTION | {"content": 3}]}, "invalid_value", "content is 3; allowed: a list",
    ),
    "messages[0].content[0].image_url.detail": (
        said(PICTURE),
        "invalid_value",
        "detail is 'banana'; allowed: auto, low, high, original",
    ),
    "reasoning_effort": ({"reasoning_effort": "x"}, "invalid_value", "is 'x'; allowed: none, minimal, low"),
    "frames": ({"frames": 1}, "unknown_parameter", "frames is no field of this route; leave it out"),
    "X": ({"X": 1}, "unknown_parameter", "X is no field of this route"),
    "messages[0].role ": ({"messages": [{}]}, "missing_required_parameter", "messages[0].role is missing"),
    "continue_final_message": (
        {"continue_final_message": True},
        "invalid_value",
        "continue_final_message is True; allowed: False, as the last message is the user's",
    ),
    "add_generation_prompt": (
        {"messages": [QUESTION, ANSWER], "add_generation_prompt": True},
        "invalid_value",
        "add_generation_prompt is True; allowed: False, as the last message is the assistant's",
    ),
}  # fmt: skip


@pytest.mark.parametrize("param", WRONG)
def test_a_wrong_value_is_told_with_what_is_allowed(client: httpx.Client, param: str) -> None:
    changes, code, words = WRONG[param]
    answer = posted(client, **changes)
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param.strip())
    assert words in str(error["message"])


def test_the_body_itself_is_named(client: httpx.Client) -> None:
    error = error_of(client.post("/v1/video/chat", json=[1]))
    assert str(error["message"]) == "the body is a list of 1; allowed: an object"
