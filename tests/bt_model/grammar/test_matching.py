"""What a grammar allows next, and where it gives up."""

import json

import jsonschema
import pytest

from bt_model.backends.echo import EOS, VOCAB
from bt_model.errors import InvalidValueError
from bt_model.grammar import matching
from bt_model.grammar.matching import GrammarRun, matcher_of
from tests.bt_model.grammar.spelled import byte_vocabulary, drawn

TOKENIZER = byte_vocabulary().tokenizer()


def begun(schema: object) -> GrammarRun:
    return GrammarRun(matcher_of(TOKENIZER, json.dumps(schema)), VOCAB)


def said(run: GrammarRun, text: str) -> bool:
    """Whether a text is allowed, token by token."""
    for token in text.encode():
        if not run.allowed()[token]:
            return False
        run.accept(token)
    return True


def test_nothing_but_json_of_the_schema_can_be_said() -> None:
    assert said(begun({"enum": ["ab", 3]}), '"ab"')
    assert not said(begun({"enum": ["ab", 3]}), '"b')
    assert not said(begun({"enum": ["ab", 3]}), "4")


def test_the_end_is_allowed_only_where_the_text_is_complete() -> None:
    run = begun({"type": "integer", "maximum": 99, "minimum": 0})
    assert not run.allowed()[EOS]
    assert said(run, "4")
    assert run.allowed()[EOS]
    assert not run.is_complete  # another digit may follow
    assert said(run, "2")
    assert run.is_complete


def test_one_space_may_stand_between_and_no_more() -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": False}
    assert said(begun(schema), '{"a": 1}')
    assert said(begun(schema), '{"a":1}')
    assert not said(begun(schema), '{"a":  ')
    assert not said(begun(schema), "{ ")
    assert not said(begun(schema), " ")


def test_what_is_drawn_at_random_is_valid() -> None:
    schema = {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 2, "maxItems": 4}
    for seed in range(20):
        jsonschema.validate(json.loads(drawn(begun(schema), seed)), schema)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "strnig"}, "Invalid type: strnig"),
        ({"type": "array", "uniqueItems": True}, "Unimplemented keys"),
        ({"type": "integer", "minimum": 5, "maximum": 1}, "Unsatisfiable"),
        ({"$ref": "#/$defs/nobody"}, "/\\$defs/nobody"),
        ({"$ref": "https://example.com/x.json"}, "does not fetch"),
        ({"$ref": "#"}, "allows no JSON text"),
        ({"type": "string", "pattern": "^(?!a)b$"}, "pattern that is not supported: look-around"),
        ({"type": "object", "properties": {f"k{i}": {} for i in range(3000)}}, "is too large"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_followed_is_refused_in_words(schema: object, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words) as caught:
        begun(schema)
    assert "\n" not in caught.value.message


def test_a_pattern_that_grows_too_complex_ends_in_a_fault() -> None:
    run = begun({"type": "string", "pattern": "^" + "(a?)" * 300 + "a" * 300 + "$"})
    said(run, '"' + "a" * 600)
    assert "too complex" in run.fault
    assert not run.allowed().any()
    assert not run.is_complete


def test_masks_that_take_too_long_end_in_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun({"type": "string"})
    monkeypatch.setattr(matching.time, "thread_time", iter(range(100)).__next__)  # a second a token
    run.allowed()
    assert "too complex" in run.fault
