"""Each schema of a model is compiled once."""

import pytest

from bt_model.errors import InvalidValueError
from bt_model.grammar import grammars as module
from bt_model.grammar.grammars import Grammars
from tests.bt_model.grammar.spelled import byte_grammars, drawn


@pytest.fixture
def grammars(monkeypatch: pytest.MonkeyPatch) -> Grammars:
    monkeypatch.setattr(module, "check_schema", lambda *_: None)  # its children have tests of their own
    return byte_grammars()


def test_a_schema_is_compiled_once_and_its_answers_are_apart(grammars: Grammars) -> None:
    schema = '{"enum":["ab","cd"]}'
    assert grammars.known(schema) is None
    grammar = grammars.get(schema)
    assert grammars.get(schema) is grammars.known(schema) is grammar
    assert {drawn(grammar.begin(), seed) for seed in range(20)} == {b'"ab"', b'"cd"'}


def test_a_refused_schema_stays_refused_without_another_look(grammars: Grammars) -> None:
    schema = '{"type":"strnig"}'
    for ask in (grammars.get, grammars.known, grammars.get):
        with pytest.raises(InvalidValueError, match="strnig"):
            ask(schema)


def test_what_is_forgotten_is_compiled_again(grammars: Grammars) -> None:
    schema = '{"type":"null"}'
    first = grammars.get(schema)
    grammars.forget(schema)
    assert grammars.known(schema) is None
    assert grammars.get(schema) is not first


def test_the_oldest_make_room(grammars: Grammars) -> None:
    schemas = [f'{{"const":{number}}}' for number in range(module.MOST_KEPT + 1)]
    for schema in schemas:
        grammars.get(schema)
    assert grammars.known(schemas[0]) is None
    assert all(grammars.known(schema) for schema in schemas[1:])
