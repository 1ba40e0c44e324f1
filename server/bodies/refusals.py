"""What is wrong with a body that does not have the form of its route, in words and with what is allowed."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from bt_model.errors import InvalidValueError
from server.problems import Problem

_TOOLS = 'tools are not offered by this server; leave them out, or send tool_choice "none"'
NOT_OFFERED: Mapping[str, str] = {
    "tools": _TOOLS,
    "tool_choice": _TOOLS,
    "functions": _TOOLS,
    "function_call": _TOOLS,
    "messages.tool_calls": _TOOLS,
    "messages.function_call": _TOOLS,
    "messages.audio": "spoken messages are not offered by this server; send their text",
    "audio": "spoken answers are not offered by this server; answers are text",
    "modalities": 'answers other than text are not offered by this server; allowed: ["text"]',
    "web_search_options": "searching the web is not offered by this server; leave web_search_options out",
    "mm_processor_kwargs": "settings of a processor are not offered by this server; sampling chooses frames",
    "chat_template_kwargs": "settings of a chat template are not offered by this server; allowed: {}",
    "chat_template": "a chat template is not offered as an option by this server; it is a model's own",
    "documents": "documents are not offered by this server; put their text into a message",
    "skip_special_tokens": "special tokens are not shown by this server; allowed: true",
    "spaces_between_special_tokens": "special tokens are not shown by this server; allowed: true",
    "include_stop_str_in_output": "a stop string is not shown by this server; allowed: false",
    "add_special_tokens": "special tokens are the chat template's alone on this server; allowed: false",
    "echo": "repeating the last message is not offered by this server; allowed: false",
    "use_beam_search": "beam search is not offered by this server; n gives several answers",
    "best_of": "best_of is not offered by this server; n gives several answers",
    "length_penalty": "length_penalty is not offered by this server, which has no beam search",
    "early_stopping": "early_stopping is not offered by this server, which has no beam search",
    "suffix": "suffix is not offered by this server; its answers stand behind the messages",
    "prompt": "prompt is not offered by this route; send messages",
    "prompt_logprobs": "log probabilities of a prompt are not offered by this server; use logprobs",
    "thinking": "thinking is not offered by this server; its models answer at once",
}
"""Of fields that programs send, what is said where their value asks for something."""

_BRANCH = re.compile(
    r"(str|int|float|bool)$|[A-Z]|\w[\w-]*\["
)  # of types: our fields' names are in small letters
_INDEX = re.compile(r"\[\d+\]")

_SHOWN_CHARACTERS = 80
_SPEAKS_FOR_ITSELF = {  # the value of a field that is not known may be a secret
    "missing": ("missing_required_parameter", "{} is missing; every such object has it"),
    "extra_forbidden": ("unknown_parameter", "{} is no field of this route; leave it out"),
}
_LONGEST_WORD = 40  # what is longer may be a prompt
_ALLOWED: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "none_required": "null",
    "string_unicode": "text of whole characters",
    "string_sub_type": "text",
    "string_too_short": "{min_length} or more characters",
    "string_too_long": "up to {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "{min_length} or more",
    "too_long": "up to {max_length}",
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "up to {le}",
    "less_than": "less than {lt}",
}


def not_offered(field: str) -> InvalidValueError:
    """The refusal of a value that asks for what is not offered."""
    return InvalidValueError(NOT_OFFERED[field], code="unsupported_parameter", param=field)


def of_validation(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The first of pydantic's errors as a 400 that names the field, its value and what is allowed."""
    first = errors[0]
    param = _path(first["loc"], is_unknown=first["type"] == "extra_forbidden")
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return Problem(400, f"the body is not JSON: {reason}", code="invalid_json")
    if first["loc"][0] == "body" and (words := _not_offered(param)):
        return Problem(400, words, code="unsupported_parameter", param=param)
    same = [error for error in errors if _path(error["loc"]) == param] or [first]  # of each branch of a union
    more = f" (and {len(errors) - len(same)} more)" if len(errors) > len(same) else ""
    if first["type"] in _SPEAKS_FOR_ITSELF:
        code, text = _SPEAKS_FOR_ITSELF[first["type"]]
        return Problem(400, text.format(param or "the body") + more, code=code, param=param or None)
    words = dict.fromkeys(word for error in same if (word := _allowed(error)))
    allowed = f"allowed: {' or '.join(words)}" if words else first["msg"]
    text = f"{param or 'the body'} is {_shown(first.get('input'))}; {allowed}{more}"
    return Problem(400, text, code="invalid_value", param=param or None)


async def show_refusal(_request: Request, error: Exception) -> JSONResponse:
    """Exception handler of the application for bodies, queries and paths."""
    assert isinstance(error, RequestValidationError)
    return of_validation(error.errors()).response()


def _not_offered(param: str) -> str | None:
    """What is said of a field by its path, without the numbers of a list, or by the first name of that."""
    path = _INDEX.sub("", param)
    return NOT_OFFERED.get(path, NOT_OFFERED.get(path.partition(".")[0]))


def _allowed(error: Mapping[str, Any]) -> str:
    """What is allowed in place of the value; empty where only pydantic's own words say it."""
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        return str(context["expected"]).replace(" or ", ", ").replace("'", "")
    return _ALLOWED.get(error["type"], "").format(**context)


def _path(loc: Sequence[str | int], *, is_unknown: bool = False) -> str:
    """The path of a field, whose last name is the client's own where that is unknown."""
    path = ""
    for number, part in enumerate(loc[1:], 2):  # the first says body, query or path
        is_own = is_unknown and number == len(loc)
        if isinstance(part, str) and not is_own and _BRANCH.match(part):
            continue  # pydantic's tag for a branch of a union, no part of the path
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return f"a {'list' if isinstance(value, list) else 'object'} of {len(cast(list[object], value))}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes that are not declared as application/json"
    if isinstance(value, str) and (len(value) > _LONGEST_WORD or " " in value.strip()):
        return f"a text of {len(value)} characters"
    text = repr(value)
    # a lone surrogate is a valid Python string but cannot be sent
    return text[:_SHOWN_CHARACTERS].encode("ascii", "backslashreplace").decode()
