"""Answers that follow a grammar, beside others that do not."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from bt_model.backends.echo import BEGIN, EOS, VOCAB, EchoLM
from bt_model.config import LlamaConfig
from bt_model.generation.chunk import PAGE
from bt_model.generation.engine import BatchEngine
from bt_model.generation.llama import Llama
from bt_model.generation.request import Delta, Engine, Event, GenRequest, Tokens
from bt_model.grammar.grammars import Grammar
from tests.bt_model.generation.engines import run_all, running
from tests.bt_model.generation.models import finish_of, tiny, tokens_of
from tests.bt_model.grammar.spelled import byte_grammars

CONFIG = LlamaConfig(
    vocab_size=VOCAB, width=32, num_layers=2, num_heads=4, num_kv_heads=2, mlp_width=48, max_context=512
)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "many": {"type": "integer", "maximum": 99}},
    "required": ["name", "many"],
    "additionalProperties": False,
}
GRAMMARS = byte_grammars()


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return GRAMMARS.get(json.dumps(SCHEMA))


@pytest.fixture(scope="module")
def lm() -> Llama:
    return tiny(CONFIG)


@pytest.fixture
def engine(lm: Llama) -> Iterator[Engine]:
    with running(BatchEngine(lm, max_batch=8, max_queue=64)) as started:
        yield started


def asked(number: int, grammar: Grammar | None = None, max_new_tokens: int = 200, **more: Any) -> GenRequest:
    segments = (Tokens(tuple(range(number, number + 5))),)
    ends = frozenset({EOS})
    return GenRequest(f"r{number}", segments, max_new_tokens, ends, grammar=grammar, **more)


def text_of(events: list[Event]) -> str:
    return bytes(tokens_of(events)).decode()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.5, "seed": 3},
        {"temperature": 1.0, "seed": 4, "top_k": 5, "top_p": 0.9, "min_p": 0.01},
        {"temperature": 0.7, "seed": 5, "repetition_penalty": 1.3, "presence_penalty": 1.0},
    ],
    ids=str,
)
def test_every_answer_is_valid_and_ends_by_itself(
    engine: Engine, grammar: Grammar, options: dict[str, Any]
) -> None:
    for events in run_all(engine, [asked(number, grammar, **options) for number in range(16)]):
        assert finish_of(events).reason == "stop"
        jsonschema.validate(json.loads(text_of(events)), SCHEMA)


def test_neighbours_say_what_they_say_without_it(engine: Engine, grammar: Grammar) -> None:
    free = [asked(number, temperature=0.8, seed=number, max_new_tokens=30) for number in range(4)]
    alone = [tokens_of(events) for events in run_all(engine, free)]
    mixed = run_all(engine, [each for i in range(4) for each in (asked(i + 20, grammar), free[i])])
    assert [tokens_of(events) for events in mixed[1::2]] == alone


def test_a_complete_answer_ends_however_long_it_is_to_be(engine: Engine) -> None:
    (events,) = run_all(engine, [asked(0, GRAMMARS.get('{"const":true}'), min_new_tokens=50)])
    assert (text_of(events), finish_of(events).reason) == ("true", "stop")


def test_an_answer_that_is_cut_says_so(engine: Engine, grammar: Grammar) -> None:
    (events,) = run_all(engine, [asked(0, grammar, max_new_tokens=5)])
    assert finish_of(events).reason == "length"
    assert len(tokens_of(events)) == 5


def test_log_probabilities_are_the_models_own(engine: Engine, grammar: Grammar) -> None:
    (events,) = run_all(engine, [asked(0, grammar, logprobs=True, top_logprobs=1)])
    first = next(event for event in events if isinstance(event, Delta))
    (free,) = run_all(engine, [asked(0, logprobs=True, top_logprobs=1, max_new_tokens=1)])
    assert isinstance(free[0], Delta)
    assert first.token_ids == (ord("{"),)
    assert first.logprobs[0].top == free[0].logprobs[0].top
    assert first.logprobs[0].chosen < free[0].logprobs[0].chosen


def test_what_was_preempted_goes_on_where_it_was(lm: Llama, grammar: Grammar) -> None:
    segments = (Tokens(tuple(range(PAGE - 10))),)
    requests = [
        replace(asked(number, grammar, temperature=1.0, seed=number, max_new_tokens=99), segments=segments)
        for number in range(6)
    ]
    with running(BatchEngine(lm, max_batch=6)) as roomy:
        expected = [tokens_of(events) for events in run_all(roomy, requests)]
    with running(BatchEngine(lm, max_batch=6, max_context=2 * PAGE, num_pages=8)) as narrow:
        found = [tokens_of(events) for events in run_all(narrow, requests)]
        assert narrow.stats().preemptions > 0
    assert found == expected


def test_a_grammar_ends_a_model_that_would_go_on(grammar: Grammar) -> None:
    text = '{"name":"a", "many":7}'
    echo = Tokens((BEGIN, *text.encode(), *b" and more", EOS))
    with running(BatchEngine(EchoLM(), max_batch=2)) as engine:
        request = GenRequest("r", (echo,), 200, frozenset({EOS}), grammar=grammar)
        events = list(engine.submit(request).stream())
    assert text_of(events) == text
    assert finish_of(events).reason == "stop"


def test_a_grammar_that_grows_too_complex_ends_that_answer_alone(engine: Engine) -> None:
    schema = {"type": "string", "pattern": "^" + "(a?)" * 300 + "a" * 300 + "$"}
    wild = GRAMMARS.get(json.dumps(schema))
    free = asked(1, max_new_tokens=40)
    (alone,) = run_all(engine, [free])
    events, beside = run_all(engine, [asked(0, wild), free])
    assert finish_of(events).reason == "refused"
    assert "too complex" in finish_of(events).message
    assert tokens_of(beside) == tokens_of(alone)
