"""What the OpenAPI document says of bodies beside their types, of rules checked where values are used.

Each function changes a schema in place. Not said, since JSON Schema cannot: that the user speaks, and
something is asked, that a window ends after it starts, that no more tokens are to be there than may be, how
many videos a model takes, what a video's bytes are, and what is there under an id.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bt_model.types import (
    MAX_FPS,
    MAX_FRAMES,
    MAX_STOP_LENGTH,
    MAX_STOPS,
    OPTION_BOUNDS,
    RATE_STRATEGIES,
)

Schema = dict[str, Any]


def _has(**fields: str) -> Schema:
    values: Schema = {name: {"const": value} for name, value in fields.items()}
    return {"contains": {"type": "object", "properties": values, "required": ["role"]}}


VISIBLE: Schema = {"pattern": r"\S"}
"""Of a text with something in it."""
ASKED = _has(role="user")
"""Of messages: one is the user's."""
_TEXT: Schema = {"type": "string", **VISIBLE}
_NULL: Schema = {"type": "null"}
_STOP: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_LENGTH}


def _say(schema: Schema, *rules: list[Schema]) -> None:
    """One alternative of each rule holds, beside those that were said before.

    Programs that make types of a schema would take it for a union, were it not said twice in the negative.
    """
    said = schema.setdefault("not", {"not": {"allOf": []}})["not"]["allOf"]
    said += [{"anyOf": alternatives} for alternatives in rules]


def say_options(schema: Schema) -> None:
    """Of how an answer is sampled."""
    properties: Schema = schema["properties"]
    for name in OPTION_BOUNDS.keys() - {"logprobs", "max_tokens"}:
        low, high = OPTION_BOUNDS[name]
        properties[name] |= {"exclusiveMinimum" if name == "top_p" else "minimum": low, "maximum": high}
    properties["stop"]["anyOf"] = [_STOP, {"type": "array", "items": _STOP, "maxItems": MAX_STOPS}, _NULL]
    asked = {"properties": {"logprobs": {"const": True}}, "required": ["logprobs"]}
    _say(schema, [asked, {"properties": {"top_logprobs": {"enum": [0, None]}}}])


def say_chat(schema: Schema) -> None:
    """Of a question of our own route: its options, messages or a question, and one choice of each model."""
    say_options(schema)
    one = {"properties": {"model": {"type": ["string", "null"]}}}
    _say(schema, _GIVEN, [one, {"properties": {"n": {"enum": [1, None]}}}])


def say_estimate(schema: Schema) -> None:
    """Of an estimate: messages, a question, or neither."""
    _say(schema, [*_GIVEN, {"properties": {"messages": _NULL, "question": _NULL}}])


def say_completion(schema: Schema) -> None:
    """Of a chat completion: its options, and that tools may be there if none is to be called."""
    say_options(schema)
    _say(schema, _uncalled("tools", "tool_choice"), _uncalled("functions", "function_call"))


def say_response(schema: Schema) -> None:
    """Of a request for a response: its options, uncalled tools, and a question unless it goes on from one."""
    say_options(schema)
    items = {"type": "array", **_has(role="user", type="message")}
    asked = {"properties": {"input": {"anyOf": [{"type": "string"}, items]}}}
    earlier = {"previous_response_id": {"type": "string", "minLength": 1}}
    goes_on = {"properties": earlier, "required": [*earlier]}
    _say(schema, _uncalled("tools", "tool_choice"), [asked, goes_on])


def say_sampling(schema: Schema) -> None:
    """Of which frames a model sees: a number of them or a rate."""
    properties: Schema = schema["properties"]
    for name in ("num_frames", "max_frames"):
        properties[name] |= {"minimum": 1, "maximum": MAX_FRAMES}
    properties["fps"] |= {"exclusiveMinimum": 0, "maximum": MAX_FPS}
    for name in ("start", "end"):
        properties[name]["minimum"] = 0
    strategy: Schema = {"enum": [*RATE_STRATEGIES, None]}
    rate: Schema = {"num_frames": _NULL, "fps": {"type": "number"}, "strategy": strategy}
    by_rate = {"properties": rate, "required": ["fps"]}
    _say(schema, [by_rate, {"properties": {"fps": _NULL, "max_frames": _NULL}}])


def say_part(schema: Schema) -> None:
    """Of a part of a message: the field that its type names is there."""
    kinds: list[str] = schema["properties"]["type"]["enum"]
    say_fields(schema, {kind: (kind,) for kind in kinds})


def say_fields(schema: Schema, fields: Mapping[str, Sequence[str]]) -> None:
    """Of an object with a type: one of the fields of that is there."""
    _say(
        schema,
        [
            {"properties": {"type": {"const": kind}, name: {"not": _NULL}}, "required": ["type", name]}
            for kind, names in fields.items()
            for name in names
        ],
    )


def say_format(schema: Schema) -> None:
    """Of what an answer looks like: the schema is there with its type, and with no other."""
    _say(schema, _formats("json_schema", among=("json_schema",)))


def say_text_format(schema: Schema) -> None:
    """The same where the schema and its name stand beside the type."""
    _say(schema, _formats("name", "schema", among=("name", "schema", "description", "strict")))


def say_file(schema: Schema) -> None:
    """Of a file: its id or its data."""
    _say(
        schema,
        [{"properties": {name: {"type": "string"}}, "required": [name]} for name in ("file_id", "file_data")],
    )


def say_own_message(schema: Schema) -> None:
    """Of a message of our own route: only the user's shows videos, and it is not empty."""
    full = _full({"properties": {"text": _TEXT}, "required": ["text"]})
    _say(
        schema,
        [
            {"properties": {"role": {"const": "user"}, "content": full}, "required": ["content"]},
            {
                "properties": {"role": {"const": "user"}, "videos": {"type": "array", "minItems": 1}},
                "required": ["videos"],
            },
            {"properties": {"role": {"enum": ["system", "assistant"]}, "videos": {"maxItems": 0}}},
        ],
    )


def say_message(schema: Schema) -> None:
    """Of a message: only the user's shows videos, and it is not empty."""
    _say(schema, _said({"text": "text"}, is_needed=False))


def say_item(schema: Schema) -> None:
    """Of an item of a response's input: a message, as above, what one refers to, or what is left out."""
    texts = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
    messages = _said(texts, is_needed=True)
    for each in messages:
        each["properties"]["type"] = {"enum": ["message", None]}
    reference: Schema = {"type": {"const": "item_reference"}, "id": {"type": "string"}}
    thought = {"properties": {"type": {"const": "reasoning"}}, "required": ["type"]}
    _say(schema, [*messages, {"properties": reference, "required": [*reference]}, thought])


def _said(texts: Mapping[str, str], *, is_needed: bool) -> list[Schema]:
    """Alternatives of a message; `texts` are the types of parts that are texts, and their fields.

    The user's has a content, all others where it `is_needed`.
    """
    is_text: Schema = {"enum": [*texts]}
    lines: list[Schema] = [
        {"properties": {"type": {"const": kind}, field: _TEXT}, "required": [field]}
        for kind, field in texts.items()
    ]
    full = _full(*lines, {"properties": {"type": {"not": is_text}}})
    user = {"properties": {"role": {"const": "user"}, "content": full}, "required": ["role", "content"]}
    only_text: Schema = {
        "type": ["string", "array", *([] if is_needed else ["null"])],
        "items": {"type": "object", "properties": {"type": is_text}},
    }
    others = {"role": {"enum": ["system", "developer", "assistant"]}, "content": only_text}
    return [user, {"properties": others, "required": ["role", "content"] if is_needed else []}]


def _full(*parts: Schema) -> Schema:
    """Of a content that is a text, or has one of these parts."""
    return {"anyOf": [_TEXT, {"type": "array", "contains": {"type": "object", "anyOf": [*parts]}}]}


def _uncalled(tools: str, choice: str) -> list[Schema]:
    none = {"properties": {choice: {"const": "none"}}, "required": [choice]}
    return [{"properties": {tools: {"maxItems": 0}}}, none]


def _formats(*needed: str, among: Sequence[str]) -> list[Schema]:
    free = {"type": {"not": {"const": "json_schema"}}, **dict.fromkeys(among, _NULL)}
    given: Schema = {"type": {"const": "json_schema"}, **{name: {"not": _NULL} for name in needed}}
    return [{"properties": free}, {"properties": given, "required": ["type", *needed]}]


_GIVEN: list[Schema] = [
    {"properties": {"messages": {"not": _NULL}, "question": _NULL}, "required": ["messages"]},
    {"properties": {"messages": _NULL, "question": _TEXT}, "required": ["question"]},
]
