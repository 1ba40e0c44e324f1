"""Schemas are compiled where they can hurt nobody, and what is wrong is told with its place."""

import json
import time

import pytest

from bt_model.errors import EngineError, InvalidValueError
from bt_model.grammar import child
from bt_model.grammar.child import check_schema
from bt_model.grammar.schema import SCHEMA_FIELD
from tests.bt_model.grammar.spelled import byte_vocabulary

VOCABULARY = byte_vocabulary()


def refusal(schema: object) -> InvalidValueError:
    with pytest.raises(InvalidValueError) as caught:
        check_schema(VOCABULARY, json.dumps(schema))
    return caught.value


def test_a_good_schema_passes() -> None:
    check_schema(VOCABULARY, '{"type":"object"}')


def test_what_would_take_minutes_ends_at_its_limit() -> None:
    begin = time.monotonic()
    error = refusal({"type": "integer", "multipleOf": 9_999_991})
    assert "takes more than" in error.message
    assert error.param == SCHEMA_FIELD
    assert time.monotonic() - begin < child.WALL_SECONDS


def test_the_place_is_the_innermost_part_with_the_same_fault() -> None:
    wrong = {"type": "array", "uniqueItems": True}
    schema = {
        "type": "object",
        "properties": {"fine": {"type": "null"}, "a": {"anyOf": [{"$ref": "#/$defs/n"}, {"items": wrong}]}},
        "$defs": {"n": {"type": "integer"}},
    }
    error = refusal(schema)
    assert error.param == f"{SCHEMA_FIELD}.properties.a.anyOf[1].items"
    assert error.message == f'{error.param} is not supported: Unimplemented keys: ["uniqueItems"]'


@pytest.mark.parametrize(
    "kept", [{"exclusiveMinimum": 0}, {"exclusiveMinimum": 0.5, "maximum": 2}, {"maximum": 0.5}]
)
def test_exclusive_bounds_that_hold_are_taken(kept: dict[str, float]) -> None:
    check_schema(VOCABULARY, json.dumps({"type": "number"} | kept))


@pytest.mark.parametrize(
    "bounds", [{"exclusiveMinimum": 0, "maximum": 0.5}, {"exclusiveMinimum": -0.5, "exclusiveMaximum": 0}]
)
def test_exclusive_bounds_that_the_library_does_not_hold_are_refused(bounds: dict[str, float]) -> None:
    error = refusal({"type": "object", "properties": {"share": {"type": "number"} | bounds}})
    assert error.param == f"{SCHEMA_FIELD}.properties.share"
    assert "exclusive bound" in error.message


def test_a_machine_that_is_too_busy_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "WALL_SECONDS", 0.001)
    with pytest.raises(EngineError, match="try again") as caught:
        check_schema(VOCABULARY, '{"type":"object"}')
    assert caught.value.code == "overloaded"
