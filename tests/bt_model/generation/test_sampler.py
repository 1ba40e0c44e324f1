"""Choosing the next id: each step against its plain definition."""

import math
from dataclasses import replace
from random import Random

import pytest
import torch
import torch.nn.functional as F

from bt_model.generation import nucleus, sampler
from bt_model.generation.history import History, Said
from bt_model.generation.request import GenRequest
from bt_model.generation.sampler import Choice, RowOptions
from tests.bt_model.generation.models import VOCAB, request

CPU = torch.device("cpu")


def logits_of(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


def choose(
    requests: list[GenRequest], logits: torch.Tensor, uniforms: list[float], said: tuple[int, ...] = ()
) -> Choice:
    history = History()
    history.update(said)
    vocab = logits.shape[1]
    return RowOptions(requests, vocab, CPU).choose(logits.clone(), [history] * len(requests), uniforms)


def kept(scores: torch.Tensor, top_k: int, top_p: float, min_p: float = 0.0) -> list[int]:
    """Ids (V,) that may be drawn: those that some of many numbers draw."""
    shares = F.pad(scores.softmax(-1), (0, -len(scores) % nucleus.BLOCK)).repeat(4000, 1)
    row = request(temperature=1.0, top_k=top_k, top_p=min(top_p, 1.0), min_p=min_p)
    numbers = torch.linspace(0, 1 - 1e-12, 4000, dtype=torch.float64)[:, None]
    bounds = nucleus.Bounds.of([row] * len(numbers), len(scores), CPU)
    return nucleus.draw(shares, bounds, numbers, torch.empty_like(shares)).unique().tolist()


def test_penalties_lower_what_was_said_of_both_signs() -> None:
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0], [2.0, -2.0, 2.0, -2.0]])
    once, twice = History(), History()
    once.update([0, 1])
    twice.update([3])
    twice.update([3, 1, 3])
    rows = [request(repetition_penalty=2.0), request(presence_penalty=0.5, frequency_penalty=0.25)]
    Said.of([once, twice], rows).penalise(logits)
    assert logits.tolist() == [[1.0, -4.0, 2.0, -2.0], [2.0, -2.75, 2.0, -3.0]]


def test_a_history_grows_and_counts() -> None:
    history, said = History(), [i % 100 for i in range(250)]
    for end in (3, 120, 250):
        history.update(said[:end])
    assert history.ids.tolist() == list(range(100))
    assert history.counts.tolist() == [3.0] * 50 + [2.0] * 50


def test_a_penalty_changes_the_choice_and_not_the_log_probability() -> None:
    logits = torch.tensor([[3.0, 2.9, 0.0, 0.0]])
    choice = choose([request(repetition_penalty=2.0, logprobs=True)], logits, [0.0], said=(0,))
    assert choice.ids == (1,)
    assert choice.logprobs[0].chosen == pytest.approx(logits.log_softmax(-1)[0, 1].item())


def test_min_p_keeps_what_has_a_part_of_the_best_ones_share() -> None:
    assert kept(torch.tensor([0.1, 0.5, 0.15, 0.25]).log(), 0, 1.0, 0.3) == [1, 2, 3]


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0, 12.0])
@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p"), [(0, 0.9, 0), (50, 1, 0), (500, 0.8, 0), (0, 1, 0.05), (0, 0.999, 0)]
)
def test_a_large_vocabulary_is_drawn_from_by_the_shares_of_what_is_kept(
    spread: float, top_k: int, top_p: float, min_p: float
) -> None:
    scores = torch.randn(20_000, generator=torch.Generator().manual_seed(3)) * spread
    scores[7_000:7_300] += 3 * spread  # many of the best in few blocks
    shares = scores.softmax(-1)
    ordered, ids = shares.double().sort(descending=True)
    if top_k:
        ordered[top_k:] = 0
    is_kept = (ordered.cumsum(0) - ordered < top_p * ordered.sum()) & (ordered >= min_p * ordered[0])
    allowed = torch.zeros(20_000, dtype=torch.float64).index_copy(0, ids, ordered * is_kept)
    numbers = torch.rand(500, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    row = request(temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p)
    bounds, rows = nucleus.Bounds.of([row] * 500, 20_000, CPU), shares.repeat(500, 1)
    drawn = nucleus.draw(rows, bounds, numbers, torch.empty_like(rows))
    # sums of float32 round: an id at the border may be kept or not
    assert (allowed[drawn] > 0).float().mean() > 0.99
    upto = allowed.cumsum(0) / allowed.sum()
    if top_k:  # then it is the id whose share holds the number
        expected = torch.searchsorted(upto, numbers[:, 0], right=True)
        assert ((upto[drawn] - upto[expected]).abs() < 1e-4).all()
    # each draw, put anywhere into its share, is uniform: Kolmogorov and Smirnov's distance, exceeded by 0.1 %
    places = (
        (upto[drawn] - allowed[drawn] / allowed.sum() * torch.rand(500, dtype=torch.float64)).sort().values
    )
    distance = (places - torch.arange(1, 501) / 500).abs().max()
    assert distance < 1.95 / 500**0.5


def test_a_draw_from_a_large_vocabulary_is_the_same_alone_and_beside_any_others() -> None:
    generator = torch.Generator().manual_seed(8)
    shares = torch.randn(40, 20_000, generator=generator).softmax(-1)
    numbers = torch.rand(40, 1, dtype=torch.float64, generator=generator)
    kinds = [(0, 0.3, 0.0), (0, 0.9, 0.0), (0, 1.0, 0.2), (40, 0.9, 0.0), (300, 1.0, 0.0), (0, 1.0, 0.0)]
    rows = [
        request(temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p)
        for top_k, top_p, min_p in (kinds[i % len(kinds)] for i in range(40))
    ]
    together = nucleus.draw(shares, nucleus.Bounds.of(rows, 20_000, CPU), numbers, torch.empty_like(shares))
    for i in range(40):
        own = slice(i, i + 1)
        bounds = nucleus.Bounds.of(rows[own], 20_000, CPU)
        assert nucleus.draw(shares[own], bounds, numbers[own], torch.empty(1, 20_000)) == together[i]


@pytest.mark.parametrize("vocab", [61, 128, 32_000])
def test_the_best_is_the_first_of_the_greatest(vocab: int) -> None:
    logits = torch.randn(5, vocab, generator=torch.Generator().manual_seed(1))
    logits[2, [3, vocab // 2]] = 9.0
    values, ids = sampler.best(logits)
    assert (values.tolist(), ids.tolist()) == (logits.amax(-1).tolist(), logits.argmax(-1).tolist())
    assert ids[2] == 3


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
    scores = torch.linspace(0, -4, VOCAB)
    assert len(kept(scores, VOCAB, 1.0)) == VOCAB


def test_a_draw_is_the_id_whose_share_holds_the_number() -> None:
    shares = F.pad(torch.tensor([0.25, 0.5, 0.25]), (0, nucleus.BLOCK - 3)).expand(4, nucleus.BLOCK)
    uniform = torch.tensor([[0.0], [0.2499], [0.2501], [0.9999999]], dtype=torch.float64)
    assert nucleus.drawn(shares, uniform).tolist() == [0, 0, 1, 2]


def test_draws_follow_the_probabilities() -> None:
    scores = torch.randn(1, 300, generator=torch.Generator().manual_seed(0)) * 2
    expected = F.pad(scores.softmax(-1), (0, 84))  # to whole blocks
    random = Random(0)
    uniform = torch.tensor([[random.random()] for _ in range(20_000)], dtype=torch.float64)
    drawn = nucleus.drawn(expected.expand(20_000, 384), uniform)
    torch.testing.assert_close(drawn.bincount(minlength=384) / 20_000, expected[0], atol=0.012, rtol=0)


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
    rows = [request(logprobs=True), request(temperature=0.5, top_k=2, logprobs=True)]
    choice = choose(rows, logits, [0.0, 0.5])
    ids = torch.tensor([i for i in choice.ids if i is not None])
    expected = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor([each.chosen for each in choice.logprobs]), expected)


def test_the_likeliest_ids_come_in_order_and_of_equals_the_least_first() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0, 2.0, 2.0]])
    rows = [replace(request(logprobs=True), top_logprobs=count) for count in (0, 3, 20)]
    read = choose(rows, logits.expand(3, -1), [0.0] * 3).logprobs
    assert [[number for number, _ in each.top] for each in read] == [[], [1, 3, 2], [1, 3, 2, 4, 5, 0]]
    expected = logits.log_softmax(-1)[0, [1, 3, 2, 4, 5, 0]]
    assert [logprob for _, logprob in read[2].top] == expected.tolist()


def test_log_probabilities_are_the_same_to_the_bit_beside_any_rows() -> None:
    logits = torch.randn(9, 50_000, generator=torch.Generator().manual_seed(5)) * 4
    asked = replace(request(logprobs=True), top_logprobs=5)
    rows = [asked, request(temperature=1.0), replace(asked, top_logprobs=20), request(repetition_penalty=1.5)]
    rows = [*rows, *rows, asked]
    together = choose(rows, logits, [0.5] * 9, said=(3, 4)).logprobs
    assert together[0] == choose([asked], logits[:1], [0.5]).logprobs[0]
    assert together[2].top[:5] == choose([asked], logits[2:3], [0.5]).logprobs[0].top


def test_only_rows_that_are_not_finite_have_no_id() -> None:
    logits = logits_of(4)
    logits[1, 7], logits[2, 0] = torch.nan, torch.inf
    logits[3, 5] = -torch.inf
    ids = choose([request(temperature=0.5 * (i % 2)) for i in range(4)], logits, [0.5] * 4).ids
    assert [i is None for i in ids] == [False, True, True, False]
