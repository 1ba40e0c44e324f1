"""Options of an answer: the same on both routes."""

from typing import Any

import pytest
from pydantic import ValidationError

from bt_model.errors import InvalidValueError
from bt_model.types import GenerateOptions
from server.bodies.chat import ChatBody
from server.bodies.formats import MAX_BIASES
from server.bodies.openai import CompletionBody
from server.bodies.own import OptionsBody
from server.bodies.response_dialogue import AskedResponse
from server.bodies.responses import ResponsesBody


def completion(fields: dict[str, Any]) -> OptionsBody:
    return CompletionBody.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "q"}], **fields}
    )


def chat(fields: dict[str, Any]) -> OptionsBody:
    return ChatBody.model_validate({"video": "v", "messages": [{"role": "user", "content": "q"}], **fields})


ROUTES = pytest.mark.parametrize("route", [completion, chat])


@ROUTES
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"temperature": 0.5, "top_p": 0.5, "top_k": 3},
            GenerateOptions(temperature=0.5, top_p=0.5, top_k=3),
        ),
        ({"min_p": 0.1, "seed": 7}, GenerateOptions(min_p=0.1, seed=7)),
        (
            {"presence_penalty": 1, "frequency_penalty": -1},
            GenerateOptions(presence_penalty=1, frequency_penalty=-1),
        ),
        (
            {"repetition_penalty": 1.1, "ignore_eos": True},
            GenerateOptions(repetition_penalty=1.1, ignore_eos=True),
        ),
        ({"max_tokens": 9, "min_tokens": 3}, GenerateOptions(max_tokens=9, min_tokens=3)),
        ({"stop": ["a", "b"]}, GenerateOptions(stop=("a", "b"))),
        ({"logprobs": True, "top_logprobs": 2}, GenerateOptions(logprobs=2)),
        ({"logit_bias": {"5": -100, "0": 1.5}}, GenerateOptions(logit_bias=((5, -100), (0, 1.5)))),
        ({"logit_bias": {}}, GenerateOptions()),
        ({"response_format": {"type": "json_object"}}, GenerateOptions(schema='{"type":"object"}')),
    ],
    ids=lambda value: str(value)[:40],
)
def test_every_option_arrives(route: Any, fields: dict[str, Any], expected: GenerateOptions) -> None:
    assert route(fields).options() == expected


@ROUTES
@pytest.mark.parametrize("name", ["a", "-1", "1.0", "", "٣", "123456789"])
def test_a_bias_of_what_is_no_id_is_refused(route: Any, name: str) -> None:
    with pytest.raises(InvalidValueError, match="token ids of the model") as caught:
        route({"logit_bias": {name: 1}}).options()
    assert caught.value.param == "logit_bias"


@ROUTES
@pytest.mark.parametrize("value", [101, -100.5, "1", None, float("nan")])
def test_a_bias_out_of_range_is_refused(route: Any, value: object) -> None:
    with pytest.raises(ValidationError, match="logit_bias"):
        route({"logit_bias": {"1": value}})


@ROUTES
def test_as_many_biases_as_allowed_and_no_more(route: Any) -> None:
    biases = {str(number): 1.0 for number in range(MAX_BIASES)}
    assert len(route({"logit_bias": biases}).options().logit_bias) == MAX_BIASES
    with pytest.raises(ValidationError) as caught:
        route({"logit_bias": dict.fromkeys(map(str, range(MAX_BIASES + 1)), "wrong")})
    assert caught.value.error_count() == 1


@ROUTES
def test_more_tokens_at_least_than_at_most_are_refused(route: Any) -> None:
    with pytest.raises(InvalidValueError, match="min_tokens is 9; allowed: up to max_tokens"):
        route({"max_tokens": 3, "min_tokens": 9}).options()


def nobody(name: str) -> dict[str, Any]:
    raise KeyError(name)


def test_a_response_takes_them_as_a_completion_does() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "null"}, "strict": True}
    more = {"logit_bias": {"5": 1}, "min_tokens": 2, "text": {"format": schema}}
    body = ResponsesBody.model_validate({"model": "m", "input": "q", **more})
    options = AskedResponse.read(body, (), nobody).completion().options()
    assert options == GenerateOptions(logit_bias=((5, 1),), min_tokens=2, schema='{"type":"null"}')
