"""What the OpenAPI document says of bodies beside their types, of rules checked where values are used.

Each function changes a schema in place. Not said, since JSON Schema cannot: that the user speaks, and
something is asked, that a window ends after it starts, how many videos a model takes, and what a video's
bytes are.
"""

from typing import Any

from bt_model.types import MAX_FPS, MAX_FRAMES, MAX_STOP_LENGTH, MAX_STOPS, OPTION_BOUNDS

Schema = dict[str, Any]

_TEXT: dict[str, Any] = {"type": "string", "pattern": r"\S"}
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
    bounds = {**OPTION_BOUNDS, "max_completion_tokens": OPTION_BOUNDS["max_tokens"]}
    for name in (bounds.keys() & properties.keys()) - {"logprobs"}:
        low, high = bounds[name]
        properties[name] |= {"exclusiveMinimum" if name == "top_p" else "minimum": low, "maximum": high}
    for name in {"max_tokens", "max_completion_tokens"} & properties.keys():
        properties[name] |= {"minimum": -1, "not": {"const": 0}}  # -1: as many as there is room for
    properties["stop"]["anyOf"] = [_STOP, {"type": "array", "items": _STOP, "maxItems": MAX_STOPS}, _NULL]
    asked = {"properties": {"logprobs": {"const": True}}, "required": ["logprobs"]}
    _say(schema, [asked, {"properties": {"top_logprobs": {"enum": [0, None]}}}])


def say_chat(schema: Schema) -> None:
    """Of a question of our own route: its options, messages or a question, and one choice of each model."""
    say_options(schema)
    given: list[Schema] = [
        {"properties": {name: {"not": _NULL}, other: _NULL}, "required": [name]}
        for name, other in (("messages", "question"), ("question", "messages"))
    ]
    given[1]["properties"]["question"] = _TEXT
    one = {"properties": {"model": {"type": ["string", "null"]}}}
    _say(schema, given, [one, {"properties": {"n": {"enum": [1, None]}}}])


def say_completion(schema: Schema) -> None:
    """Of a chat completion: its options, and that tools may be there if none is to be called."""
    say_options(schema)
    for given, choice in (("tools", "tool_choice"), ("functions", "function_call")):
        none = {"properties": {choice: {"const": "none"}}, "required": [choice]}
        _say(schema, [{"properties": {given: {"maxItems": 0}}}, none])


def say_sampling(schema: Schema) -> None:
    """Of which frames a model sees: a number of them or a rate."""
    properties: Schema = schema["properties"]
    for name in ("num_frames", "max_frames"):
        properties[name] |= {"minimum": 1, "maximum": MAX_FRAMES}
    properties["fps"] |= {"exclusiveMinimum": 0, "maximum": MAX_FPS}
    for name in ("start", "end"):
        properties[name]["minimum"] = 0
    by_rate = {"properties": {"num_frames": _NULL, "fps": {"type": "number"}}, "required": ["fps"]}
    _say(schema, [by_rate, {"properties": {"fps": _NULL, "max_frames": _NULL}}])


def say_part(schema: Schema) -> None:
    """Of a part of a message: the field that its type names is there."""
    kinds: list[str] = schema["properties"]["type"]["enum"]
    _say(
        schema,
        [
            {"properties": {"type": {"const": kind}, kind: {"not": _NULL}}, "required": [kind]}
            for kind in kinds
        ],
    )


def say_format(schema: Schema) -> None:
    """Of what an answer looks like: the schema is there with its type, and with no other."""
    free = {"properties": {"type": {"not": {"const": "json_schema"}}, "json_schema": _NULL}}
    given: Schema = {"type": {"const": "json_schema"}, "json_schema": {"not": _NULL}}
    _say(schema, [free, {"properties": given, "required": ["json_schema"]}])


def say_file(schema: Schema) -> None:
    """Of a file: its id or its data."""
    _say(
        schema,
        [{"properties": {name: {"type": "string"}}, "required": [name]} for name in ("file_id", "file_data")],
    )


def say_own_message(schema: Schema) -> None:
    """Of a message of our own route: only the user's shows videos, and it is not empty."""
    line = {"type": "object", "properties": {"text": _TEXT}, "required": ["text"]}
    full = {"anyOf": [_TEXT, {"type": "array", "contains": line}]}
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
    line = {"properties": {"type": {"const": "text"}, "text": _TEXT}, "required": ["text"]}
    video = {"properties": {"type": {"not": {"const": "text"}}}}
    full = {"anyOf": [_TEXT, {"type": "array", "contains": {"type": "object", "anyOf": [line, video]}}]}
    only_text = {"items": {"type": "object", "properties": {"type": {"const": "text"}}}}
    user = {"properties": {"role": {"const": "user"}, "content": full}, "required": ["content"]}
    others = {"role": {"enum": ["system", "developer", "assistant"]}, "content": only_text}
    _say(schema, [user, {"properties": others}])
