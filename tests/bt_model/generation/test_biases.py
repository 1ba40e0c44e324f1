"""Biases of single ids, and answers that are not to end too early."""

from dataclasses import replace

import pytest
import torch

from bt_model.errors import InvalidValueError
from bt_model.generation.allowed import BiasRows
from bt_model.generation.request import Delta, Engine
from tests.bt_model.generation.engines import run_all
from tests.bt_model.generation.models import VOCAB, finish_of, request, tokens_of

CPU = torch.device("cpu")


def test_a_bias_is_added_to_its_row_and_id_alone() -> None:
    logits = torch.zeros(3, 5)
    rows = [
        request(),
        replace(request(), logit_bias=((1, 2.0), (4, -100.0))),
        replace(request(), logit_bias=((0, 1),)),
    ]
    biases = BiasRows.of(rows, CPU)
    assert biases is not None
    biases.add(logits)
    assert logits.tolist() == [[0, 0, 0, 0, 0], [0, 2, 0, 0, -100], [1, 0, 0, 0, 0]]
    assert BiasRows.of(rows[:1], CPU) is None


def test_what_is_biased_enough_is_all_that_is_said_and_its_neighbour_does_not_notice(engine: Engine) -> None:
    free = request(temperature=1.0, seed=5)
    (alone,) = run_all(engine, [free])
    biased = replace(request(temperature=1.0, seed=5, logprobs=True), logit_bias=((7, 100.0),))
    said, beside = run_all(engine, [biased, free])
    assert set(tokens_of(said)) == {7}
    assert tokens_of(beside) == tokens_of(alone)
    assert isinstance(said[0], Delta)
    assert said[0].logprobs[0].chosen < -0.1  # the model's own, which are not those of the draw


def test_an_id_that_is_not_in_the_vocabulary_is_refused(engine: Engine) -> None:
    engine.submit(replace(request(), logit_bias=((VOCAB - 1, 1.0),)))
    with pytest.raises(
        InvalidValueError, match=f"logit_bias is \\[{VOCAB}\\]; allowed: token ids 0 to {VOCAB - 1}"
    ):
        engine.submit(replace(request(), logit_bias=((VOCAB, 1.0),)))


@pytest.mark.parametrize("least", [0, 1, 5])
def test_no_stop_token_comes_before_the_least_number_of_tokens(engine: Engine, least: int) -> None:
    ends = frozenset(range(VOCAB - 1))  # all but one
    asked = replace(request(stop_token_ids=ends, temperature=1.0, seed=1), min_new_tokens=least)
    (events,) = run_all(engine, [replace(asked, logit_bias=((3, 50.0),))])
    assert tokens_of(events) == (VOCAB - 1,) * least
    assert finish_of(events).reason == "stop"
