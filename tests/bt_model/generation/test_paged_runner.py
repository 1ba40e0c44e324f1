"""Steps as on a GPU, with torch's kernels: on a CPU against the decoder itself, and on a pretended device."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bt_model.generation import llama
from bt_model.generation.chunk import PAGE, Chunk
from bt_model.generation.decode_graphs import BUCKETS, Compute, DecodeGraphs
from bt_model.generation.decode_kernels import LayerPages, TorchKernels, num_splits
from bt_model.generation.engine import BatchEngine
from bt_model.generation.kv_cache import Heads
from bt_model.generation.language_model import compute
from bt_model.generation.llama import Llama
from bt_model.generation.paged_runner import PagedRunner
from bt_model.generation.request import GenRequest, Tokens
from bt_model.generation.rope import Rope
from tests.bt_model.generation.engines import run_all, running
from tests.bt_model.generation.models import CONFIG, VOCAB, WIDTH, prompt, request, tiny, tokens_of, wake
from tests.bt_model.generation.test_llama_runner import prefill
from tests.pretended_cuda import CUDA, PretendedCuda, Traffic, pretended_cuda

LONG = replace(CONFIG, max_context=4 * PAGE)
LENGTH = 2 * PAGE + 44
TOLERANCE = 2e-5
CUTS = [(LENGTH,), (256, 44), (1, 299), (37,) * 8 + (4,)]
DEEP = replace(CONFIG, num_layers=32, num_heads=32, num_kv_heads=32, width=256, vocab_size=3200)


class CountedKernels(TorchKernels):
    """Each stands for as many kernels as Triton's have."""

    def __init__(self, gpu: PretendedCuda) -> None:
        self._gpu = gpu

    def add_norm(self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        with self._gpu.one_operator("add_norm"):
            return super().add_norm(x, delta, weight, eps)

    def attend(self, qkv: Tensor, rope: Rope, rows: Tensor, pages: LayerPages, heads: Heads) -> Tensor:
        is_split = num_splits(len(rows) * heads.shared) > 1
        with self._gpu.one_operator("attend", 2 if is_split else 1):
            return super().attend(qkv, rope, rows, pages, heads)

    def gate(self, gate_up: Tensor) -> Tensor:
        with self._gpu.one_operator("gate"):
            return super().gate(gate_up)


@pytest.fixture(scope="module")
def lm() -> Llama:
    return tiny(LONG)


@pytest.fixture(scope="module")
def embeds() -> Tensor:
    return torch.randn(LENGTH, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def runner(lm: Llama) -> PagedRunner:
    return PagedRunner(lm.model, lm.head_weight, 20, TorchKernels())


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedCuda]:
    """With runners as a GPU with Triton has them."""
    with pretended_cuda() as device:
        monkeypatch.setattr(llama, "triton_kernels", lambda *_: CountedKernels(device))
        yield device


def test_more_rows_than_any_bucket_are_computed_at_once(lm: Llama, embeds: Tensor) -> None:
    count = BUCKETS[-1] + 1
    runner = PagedRunner(lm.model, lm.head_weight, count, TorchKernels())
    rows = [Chunk((1 + row,), 0, 1, is_prompt=False) for row in range(count)]
    logits = compute(runner, embeds[:1].expand(count, -1).contiguous(), rows)
    torch.testing.assert_close(logits[-1], lm(embeds[None, :1])[0, -1], atol=TOLERANCE, rtol=0)


def test_rows_between_the_parts_of_a_pass_change_nothing(embeds: Tensor) -> None:
    lm = tiny(replace(LONG, num_layers=9))
    runner = PagedRunner(lm.model, lm.head_weight, 20, TorchKernels())
    prefill(runner, embeds[:150], (150,), (4, 5))
    tokens, parts = list[Tensor](), list[Tensor | None]()
    for part in runner.forward(embeds, [Chunk((6, 7, 8), 0, LENGTH, is_prompt=True)]):
        parts.append(part)
        tokens.append(compute(runner, embeds[150:151], [Chunk((4, 5), 150, 1, is_prompt=False)])[0].clone())
    first, second, last = parts
    assert (first, second) == (None, None)
    assert last is not None
    torch.testing.assert_close(last[0], lm(embeds[None])[0, -1], atol=TOLERANCE, rtol=0)
    assert all(torch.equal(token, tokens[0]) for token in tokens)


def test_given_embeddings_are_not_changed(runner: PagedRunner, embeds: Tensor) -> None:
    given = embeds[:20].clone()
    compute(runner, given, [Chunk((1,), 0, 20, is_prompt=True)])
    compute(runner, given[:1], [Chunk((1,), 20, 1, is_prompt=False)])
    assert torch.equal(given, embeds[:20])


@pytest.mark.parametrize("cut", [True, False], ids=["cut head", "whole head"])
def test_rows_of_the_token_table_without_a_head_are_never_said(embeds: Tensor, *, cut: bool) -> None:
    lm = tiny(LONG)
    head = lm.head_weight[: VOCAB - 1] if cut else lm.head_weight
    runner = PagedRunner(lm.model, head, 2, TorchKernels())
    logits = compute(runner, embeds[:5], [Chunk((1,), 0, 5, is_prompt=True)])
    assert logits.shape == (1, VOCAB)
    assert bool(logits[0, -1].isneginf()) == cut


def graphs(record: Callable[[Compute], Compute]) -> DecodeGraphs:
    """Rows whose logits are the sum of their embeddings and numbers."""
    return DecodeGraphs(lambda x, rows: x + rows.sum(1, keepdim=True), torch.zeros(WIDTH), 3, record)


def test_a_step_is_recorded_once_for_each_bucket() -> None:
    sizes: list[int] = []

    def record(compute: Compute) -> Compute:
        sizes.append(len(compute()))
        return compute

    steps = graphs(record)
    for count in (3, 4, 1, 5, 3, 256):
        embeds, rows = torch.randn(count, WIDTH), torch.randint(9, (count, 3), dtype=torch.int32)
        assert torch.equal(steps.step(embeds, rows), embeds + rows.sum(1, keepdim=True))
    assert sizes == [4, 1, 8, 256]


def test_rows_that_pad_a_step_are_those_of_the_null_page() -> None:
    held: list[Tensor] = []
    steps = DecodeGraphs(lambda x, rows: held.extend((x, rows)) or x, torch.zeros(WIDTH), 3)
    steps.step(torch.full((4, WIDTH), torch.nan), torch.ones(4, 3, dtype=torch.int32))
    steps.step(torch.ones(3, WIDTH), torch.ones(3, 3, dtype=torch.int32))
    assert [x[3:].abs().sum().item() for x in held[2:]] == [0, 0]


def test_what_cannot_be_recorded_is_computed_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    def record(compute: Compute) -> Compute:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    steps = graphs(record)
    assert torch.equal(
        steps.step(torch.ones(1, WIDTH), torch.zeros(1, 3, dtype=torch.int32)), torch.ones(1, WIDTH)
    )
    assert "not recorded" in caplog.text


def test_a_broken_device_ends_a_recording() -> None:
    def record(compute: Compute) -> Compute:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        graphs(record).step(torch.ones(1, WIDTH), torch.zeros(1, 3, dtype=torch.int32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_engine_says_there_what_it_says_on_a_cpu(gpu: PretendedCuda, dtype: torch.dtype) -> None:
    def asked() -> list[GenRequest]:
        return [request(prompt(index % 3), 6) for index in range(4)]  # the last one has a stored beginning

    with running(BatchEngine(tiny().to(dtype), max_batch=3)) as engine:
        expected = [tokens_of(events) for events in run_all(engine, asked())]
    lm = tiny().to(CUDA, dtype)
    assert isinstance(lm.start(1), PagedRunner)
    with running(BatchEngine(lm, max_batch=3)) as engine:
        answers = [tokens_of(events) for events in run_all(engine, asked())]
    if dtype is torch.float32:  # rounded otherwise, they need not be the same words
        assert answers == expected
    assert [len(answer) for answer in answers] == [6] * 4


@pytest.mark.parametrize(("num_rows", "most"), [(1, 300), (16, 270)])
def test_a_step_of_32_layers_takes_few_kernels_and_one_read(
    gpu: PretendedCuda, num_rows: int, most: int
) -> None:
    step = traffic_of_a_step(gpu, num_rows)
    assert 32 * 8 < step.num_kernels <= most
    assert (step.reads, step.uploads) == (0, 1)


def traffic_of_a_step(gpu: PretendedCuda, num_rows: int) -> Traffic:
    lm = wake(Llama(DEEP)).to(CUDA, torch.bfloat16)
    runner = lm.start(num_rows)
    x = lm.embed(torch.arange(num_rows))
    with gpu.counted() as traffic:
        compute(runner, x, [Chunk((1 + row,), 3, 1, is_prompt=False) for row in range(num_rows)])
    return traffic


def test_a_new_token_of_the_engine_costs_one_read(gpu: PretendedCuda) -> None:
    lm = wake(Llama(DEEP)).to(CUDA, torch.bfloat16)
    counts: list[Traffic] = []
    with running(BatchEngine(lm, max_batch=1)) as engine:
        run_all(engine, [request([Tokens((9, 9))], 2)])  # what a start does has been done
        for new in (3, 4):
            with gpu.counted() as traffic:
                (events,) = run_all(engine, [request([Tokens((new, 1, 2))], new)])
            assert len(tokens_of(events)) == new
            counts.append(traffic)
    fewer, more = counts
    assert more.reads - fewer.reads == 1
    assert more.num_kernels - fewer.num_kernels <= 300  # embedding and drawing included
