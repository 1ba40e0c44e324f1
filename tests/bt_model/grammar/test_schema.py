"""What a schema may be before anybody compiles it."""

import json
import math
from typing import Any

import pytest

from bt_model.errors import InvalidValueError
from bt_model.grammar.schema import MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH, SCHEMA_FIELD, schema_text


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


def test_a_schema_is_one_text_whatever_its_blanks() -> None:
    assert schema_text(json.loads('{ "type" : "é" }')) == '{"type":"\\u00e9"}'


def test_the_deepest_schema_is_taken_and_one_more_level_is_refused() -> None:
    assert json.loads(schema_text(nested(MAX_SCHEMA_DEPTH)))
    with pytest.raises(InvalidValueError, match=f"nested deeper than {MAX_SCHEMA_DEPTH} levels"):
        schema_text(nested(MAX_SCHEMA_DEPTH + 1))


def test_lists_count_as_levels_too() -> None:
    value: Any = []
    for _ in range(MAX_SCHEMA_DEPTH):
        value = [value]
    with pytest.raises(InvalidValueError, match="nested deeper"):
        schema_text({"enum": value})


def test_the_longest_schema_is_taken_and_one_byte_more_is_refused() -> None:
    room = MAX_SCHEMA_BYTES - len('{"title":""}')
    assert len(schema_text({"title": "a" * room})) == MAX_SCHEMA_BYTES
    with pytest.raises(InvalidValueError, match=f"{MAX_SCHEMA_BYTES + 1} bytes; allowed: {MAX_SCHEMA_BYTES}"):
        schema_text({"title": "a" * (room + 1)})


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_json_is_refused(number: float) -> None:
    with pytest.raises(InvalidValueError, match="not finite"):
        schema_text({"minimum": number})


def test_a_schema_cannot_change_how_it_is_read() -> None:
    with pytest.raises(InvalidValueError, match="x-guidance") as caught:
        schema_text({"x-guidance": {"lenient": True}})
    assert caught.value.param == SCHEMA_FIELD
