"""Choosing the next id: each step against its plain definition."""

import math
from random import Random

import torch

from bt_model.generation import sampler
from bt_model.generation.request import GenRequest
from bt_model.generation.sampler import Choice, RowOptions
from tests.bt_model.generation.models import VOCAB, request

CPU = torch.device("cpu")


def logits_of(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


def choose(requests: list[GenRequest], logits: torch.Tensor, uniforms: list[float]) -> Choice:
    seen = torch.zeros_like(logits, dtype=torch.bool)
    return RowOptions(requests, VOCAB, CPU).choose(logits, seen, uniforms)


def kept(scores: torch.Tensor, top_k: int, top_p: float) -> list[int]:
    out = sampler.truncated(scores[None], torch.tensor([[top_k]]), torch.tensor([[top_p]]))
    return out[0].isfinite().nonzero()[:, 0].tolist()


def test_penalty_lowers_seen_ids_of_both_signs() -> None:
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    seen = torch.tensor([[True, True, False, False]])
    assert sampler.penalised(logits, seen, torch.tensor([[2.0]])).tolist() == [[1.0, -4.0, 2.0, -2.0]]


def test_top_k_keeps_the_k_best() -> None:
    scores = logits_of(1)[0]
    assert kept(scores, 5, math.inf) == sorted(scores.topk(5).indices.tolist())


def test_top_p_keeps_the_fewest_ids_that_reach_the_mass() -> None:
    scores = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    assert kept(scores, 4, 0.6) == [1, 3]


def test_top_p_counts_mass_within_top_k() -> None:
    scores = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    assert kept(scores, 2, 0.6) == [1]


def test_a_mass_that_rounds_to_nothing_keeps_the_best() -> None:
    row = request(temperature=1.0, top_p=1e-50)
    logits = logits_of(1)
    assert choose([row], logits, [0.5]).ids == (int(logits.argmax()),)


def test_a_row_that_is_not_a_number_leaves_its_neighbour_alone() -> None:
    rows = [request(temperature=1.0, top_p=0.9), request(temperature=1.0, top_p=0.9)]
    logits = logits_of(2)
    logits[0, 3] = math.nan
    assert choose(rows, logits, [0.5, 0.5]).ids == (None, *choose(rows[1:], logits[1:], [0.5]).ids)


def test_a_whole_mass_keeps_the_whole_vocabulary() -> None:
    scores = torch.linspace(0, -40, VOCAB)
    assert len(kept(scores, VOCAB, math.inf)) == VOCAB


def test_a_draw_is_the_id_whose_share_holds_the_number() -> None:
    scores = torch.tensor([[0.25, 0.5, 0.25]]).log().expand(4, 3)
    uniform = torch.tensor([[0.0], [0.2499], [0.2501], [0.9999999]], dtype=torch.float64)
    assert sampler.drawn(scores, uniform).tolist() == [0, 0, 1, 2]


def test_draws_follow_the_probabilities() -> None:
    scores = logits_of(1).expand(20_000, VOCAB)
    random = Random(0)
    uniform = torch.tensor([[random.random()] for _ in range(20_000)], dtype=torch.float64)
    shares = sampler.drawn(scores, uniform).bincount(minlength=VOCAB) / 20_000
    torch.testing.assert_close(shares, scores[0].softmax(-1), atol=0.012, rtol=0)


def test_zero_temperature_takes_the_best() -> None:
    logits = logits_of(2)
    assert list(choose([request(), request()], logits, [0.9, 0.9]).ids) == logits.argmax(-1).tolist()


def test_a_tiny_temperature_takes_the_best() -> None:
    logits = logits_of(1)
    assert list(choose([request(temperature=1e-300)], logits, [0.999]).ids) == logits.argmax(-1).tolist()


def test_temperature_divides_the_logits() -> None:
    logits = logits_of(200).sort(-1).values
    uniforms = [Random(i).random() for i in range(200)]
    hot = choose([request(temperature=2.0)] * 200, logits * 2, uniforms)
    assert hot == choose([request(temperature=1.0)] * 200, logits, uniforms)


def test_neighbours_options_do_not_change_a_rows_choice() -> None:
    logits = logits_of(5)
    requests = [
        request(temperature=0.8),
        request(temperature=1.5, top_k=3),
        request(),
        request(temperature=0.7, top_p=0.5, repetition_penalty=1.3),
        request(temperature=1.0, top_k=7, top_p=0.9, logprobs=True),
    ]
    uniforms = [0.3, 0.8, 0.0, 0.6, 0.95]
    together = choose(requests, logits, uniforms).ids
    alone = [choose([requests[i]], logits[i : i + 1], [uniforms[i]]).ids[0] for i in range(5)]
    assert list(together) == alone


def test_a_truncated_neighbour_does_not_cut_a_rows_tail() -> None:
    logits = torch.linspace(0, -40, VOCAB).expand(2, VOCAB)
    uniform = 1 - 1e-13
    ids = choose([request(temperature=1.0), request(temperature=1.0, top_p=0.5)], logits, [uniform, 0.5]).ids
    assert ids[0] == choose([request(temperature=1.0)], logits[:1], [uniform]).ids[0]


def test_logprobs_are_those_of_the_model_itself() -> None:
    logits = logits_of(2)
    choice = choose([request(logprobs=True), request(temperature=0.5, top_k=2)], logits, [0.0, 0.5])
    ids = torch.tensor([i for i in choice.ids if i is not None])
    expected = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(choice.logprobs), expected)


def test_only_rows_that_are_not_finite_have_no_id() -> None:
    logits = logits_of(4)
    logits[1, 7], logits[2, 0] = torch.nan, torch.inf
    logits[3, 5] = -torch.inf
    ids = choose([request(temperature=0.5 * (i % 2)) for i in range(4)], logits, [0.5] * 4).ids
    assert [i is None for i in ids] == [False, True, True, False]
