"""Steps over the paged cache, against the decoder without a cache and against each other."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bt_model.generation import linear, llama_runner
from bt_model.generation.chunk import PAGE, Chunk
from bt_model.generation.decode_kernels import TorchKernels
from bt_model.generation.gathered_cache import GatheredCache
from bt_model.generation.language_model import Runner, compute
from bt_model.generation.llama import Llama
from bt_model.generation.paged_runner import PagedRunner
from tests.bt_model.generation.models import CONFIG, WIDTH, tiny

LONG = replace(CONFIG, max_context=4 * PAGE)
LENGTH = 2 * PAGE + 44
TOLERANCE = 2e-5
CUTS = [(LENGTH,), (256, 44), (276, 24), (1, 299), (64, 64, 172), (37,) * 8 + (4,), (299, 1)]


@pytest.fixture(scope="module")
def lm() -> Llama:
    return tiny(LONG)


@pytest.fixture(scope="module")
def embeds() -> Tensor:
    return torch.randn(LENGTH, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.fixture(params=["bags", "gathered", "paged"])
def runner(request: pytest.FixtureRequest, lm: Llama, monkeypatch: pytest.MonkeyPatch) -> Runner:
    if request.param == "gathered":
        monkeypatch.setattr(llama_runner, "BagCache", GatheredCache)
    if request.param == "paged":
        return PagedRunner(lm.model, lm.head_weight, 20, TorchKernels())
    return lm.start(20)


def prefill(runner: Runner, embeds: Tensor, cuts: Sequence[int], pages: tuple[int, ...]) -> Tensor:
    """Logits (V,) of the last position."""
    at, logits = 0, torch.empty(0)
    for count in cuts:
        chunk = Chunk(pages, at, count, is_prompt=True, is_last=at + count == len(embeds))
        logits = compute(runner, embeds[at : at + count], [chunk])
        assert len(logits) == chunk.is_last
        at += count
    return logits[0]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_a_prompt_in_any_pieces_gives_the_decoders_own_logits(
    lm: Llama, runner: Runner, embeds: Tensor, cuts: Sequence[int]
) -> None:
    logits = prefill(runner, embeds, cuts, (7, 2, 9))
    torch.testing.assert_close(logits, lm(embeds[None])[0, -1], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("cuts", CUTS[1:], ids=str)
def test_on_a_cpu_pieces_are_equal_to_the_bit(lm: Llama, embeds: Tensor, cuts: Sequence[int]) -> None:
    if not linear.packing_pays():
        pytest.skip("matrices are not packed on this machine")
    runner = lm.start(20)
    whole = prefill(runner, embeds, (LENGTH,), (1, 2, 3))
    assert torch.equal(prefill(runner, embeds, cuts, (4, 5, 6)), whole)


def test_other_steps_between_the_parts_of_one_change_nothing(
    lm: Llama, runner: Runner, embeds: Tensor
) -> None:
    whole = prefill(runner, embeds, (LENGTH,), (1, 2, 3))
    prefill(runner, embeds[:150], (150,), (4, 5))
    prompt = Chunk((6, 7, 8), 0, LENGTH, is_prompt=True)
    tokens, parts = list[Tensor](), list[Tensor | None]()
    for part in runner.forward(embeds, [prompt]):
        parts.append(part)
        tokens.append(compute(runner, embeds[150:151], [Chunk((4, 5), 150, 1, is_prompt=False)])[0])
    assert len(parts) == (1 if isinstance(runner, PagedRunner) else CONFIG.num_layers)
    assert not any(part is not None for part in parts[:-1])
    assert parts[-1] is not None
    assert torch.equal(parts[-1][0], whole)
    assert all(torch.equal(token, tokens[0]) for token in tokens)


@pytest.mark.parametrize("lengths", [(5, 130, 200), (70, 70, 70), (127, 128, 129), (5,)], ids=str)
def test_new_tokens_of_several_sequences_give_the_decoders_own_logits(
    lm: Llama, runner: Runner, embeds: Tensor, lengths: Sequence[int]
) -> None:
    pages = [(3, 11), (5, 1), (8, 12)][: len(lengths)]
    starts = [Chunk(p, 0, n, is_prompt=True) for p, n in zip(pages, lengths, strict=True)]
    compute(runner, torch.cat([embeds[:n] for n in lengths]), starts)
    for step in range(3):
        rows = [Chunk(p, n + step, 1, is_prompt=False) for p, n in zip(pages, lengths, strict=True)]
        logits = compute(runner, torch.stack([embeds[n + step] for n in lengths]), rows)
        for row, length in enumerate(lengths):
            expected = lm(embeds[None, : length + step + 1])[0, -1]
            torch.testing.assert_close(logits[row], expected, atol=TOLERANCE, rtol=0)


def test_a_new_token_does_not_depend_on_what_is_beside_it(lm: Llama, embeds: Tensor) -> None:
    if not linear.packing_pays():
        pytest.skip("matrices are not packed on this machine")
    runner = lm.start(20)
    prefill(runner, embeds[:150], (150,), (1, 2))
    prefill(runner, embeds[:20], (20,), (3,))
    token = Chunk((1, 2), 150, 1, is_prompt=False)
    alone = compute(runner, embeds[150:151], [token])[0]
    together = compute(runner, embeds[[20, 150]], [Chunk((3,), 20, 1, is_prompt=False), token])
    assert torch.equal(together[1], alone)


def test_a_page_that_is_shared_or_copied_serves_another_sequence(
    lm: Llama, runner: Runner, embeds: Tensor
) -> None:
    prefill(runner, embeds, (LENGTH,), (1, 2, 3))
    runner.copy(2, 5)
    known = PAGE + 100
    other = torch.cat((embeds[:known], embeds[:60]))
    chunk = Chunk((1, 5, 6), known, 60, is_prompt=True)
    torch.testing.assert_close(
        compute(runner, other[known:], [chunk])[0], lm(other[None])[0, -1], atol=TOLERANCE, rtol=0
    )


def test_a_cleared_page_forgets_what_is_not_finite(lm: Llama, runner: Runner, embeds: Tensor) -> None:
    prefill(runner, torch.full((PAGE, WIDTH), torch.nan), (PAGE,), (1,))
    runner.clear(1)
    logits = prefill(runner, embeds[:70], (70,), (1,))
    torch.testing.assert_close(logits, lm(embeds[None, :70])[0, -1], atol=TOLERANCE, rtol=0)


def test_what_is_not_finite_in_a_page_hurts_nobody_who_gets_it_uncleared(
    lm: Llama, runner: Runner, embeds: Tensor
) -> None:
    prefill(runner, torch.full((2 * PAGE, WIDTH), torch.nan), (2 * PAGE,), (1, 2))
    logits = prefill(runner, embeds[:70], (70,), (1,))
    torch.testing.assert_close(logits, lm(embeds[None, :70])[0, -1], atol=TOLERANCE, rtol=0)
    prefill(runner, embeds[:PAGE], (PAGE,), (1,))
    row = Chunk((1, 2), PAGE, 1, is_prompt=False)  # begins the other page
    logits = compute(runner, embeds[PAGE : PAGE + 1], [row])[0]
    torch.testing.assert_close(logits, lm(embeds[None, : PAGE + 1])[0, -1], atol=TOLERANCE, rtol=0)


def test_weights_that_are_not_kept_are_released(embeds: Tensor) -> None:
    lm = tiny(LONG)
    expected = lm(embeds[None])[0, -1].detach()
    runner = lm.start(3, keep_weights=False)
    assert all(p.numel() == 0 for n, p in lm.named_parameters() if "proj" in n)
    torch.testing.assert_close(
        prefill(runner, embeds, (LENGTH,), (1, 2, 3)), expected, atol=TOLERANCE, rtol=0
    )


def test_plain_matrices_do_where_packed_ones_are_no_use(
    lm: Llama, embeds: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "packing_pays", lambda: False)
    logits = prefill(lm.start(3), embeds, (100, 200), (1, 2, 3))
    torch.testing.assert_close(logits, lm(embeds[None])[0, -1], atol=TOLERANCE, rtol=0)
