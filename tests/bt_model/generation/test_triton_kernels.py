# pyright: reportMissingImports=false
"""Triton's kernels against torch's operators, on a GPU or in Triton's interpreter: `make test-triton`."""

import os
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bt_model.config import LlamaConfig
from bt_model.generation import decode_kernels
from bt_model.generation.chunk import PAGE
from bt_model.generation.decode_kernels import DecodeKernels, LayerPages, TorchKernels, num_splits
from bt_model.generation.kv_cache import Heads
from bt_model.generation.rope import Rope
from tests.bt_model.generation.models import CONFIG

pytest.importorskip("triton")
if not (torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"):
    pytest.skip("needs a GPU or TRITON_INTERPRET=1", allow_module_level=True)

from bt_model.generation.triton_kernels import TritonKernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMATS = {torch.float32: 2e-5, torch.bfloat16: 0.03, torch.float16: 4e-3}
HEADS = [(4, 4, 32), (8, 2, 64), (6, 3, 80), (4, 1, 128), (4, 2, 8)]
POSITIONS = (0, 1, 63, 64, 127, 128, 129, 300)
KERNELS: tuple[DecodeKernels, DecodeKernels] = (TritonKernels(), TorchKernels())


@pytest.fixture(params=list(FORMATS), ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(autouse=True)
def bfloat16_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter multiplies the bits of bfloat16 as if they were whole numbers."""
    if DEVICE == "cuda":
        return
    from triton.language import float32  # noqa: PLC0415 - only where it can be
    from triton.runtime.interpreter import InterpreterBuilder  # noqa: PLC0415

    multiply = InterpreterBuilder.create_dot

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        a, b = (self.create_fp_ext(x, float32) if x.dtype.scalar.is_bf16() else x for x in (a, b))
        return multiply(self, a, b, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)


def random(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def close(mine: Tensor, expected: Tensor) -> None:
    tolerance = FORMATS[mine.dtype]
    torch.testing.assert_close(mine, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("has_delta", [True, False], ids=["with a sum", "alone"])
@pytest.mark.parametrize("width", [80, 128])
def test_norm_of_a_sum(dtype: torch.dtype, width: int, *, has_delta: bool) -> None:
    x, delta, weight = (random(3, width, dtype=dtype, seed=i) for i in range(3))
    results = [k.add_norm(x, delta if has_delta else None, weight[0], 1e-5) for k in KERNELS]
    for mine, expected in zip(*results, strict=True):
        close(mine, expected)


@pytest.mark.parametrize("width", [48, 1100])
def test_gate(dtype: torch.dtype, width: int) -> None:
    gate_up = random(3, 2 * width, dtype=dtype)
    close(*(kernels.gate(gate_up) for kernels in KERNELS))


@pytest.mark.parametrize("programs", [1, 1 << 12], ids=["whole", "split"])
@pytest.mark.parametrize("sizes", HEADS, ids=str)
def test_a_new_position_sees_its_past_and_is_written(
    dtype: torch.dtype, sizes: tuple[int, int, int], programs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_kernels, "PROGRAMS", programs)
    heads = Heads(1, *sizes)
    assert (num_splits(len(POSITIONS) * heads.shared) > 1) == (programs > 1)
    rows = torch.zeros(len(POSITIONS), 4, dtype=torch.int32)
    rows[:, 0] = torch.tensor(POSITIONS)
    rows[:, 1:] = 1 + torch.randperm(3 * len(POSITIONS)).view(-1, 3)  # pages lie anywhere
    shape = (1 + 3 * len(POSITIONS), heads.shared, PAGE, heads.dim)
    held = [LayerPages(*(random(*shape, dtype=dtype, seed=i) for i in (1, 2))) for _ in KERNELS]
    for pages in held:  # what lies behind a row's end counts for nothing
        pages.values[rows[0, 1], :, 1:] = torch.nan
    qkv = random(len(POSITIONS), (heads.query + 2 * heads.shared) * heads.dim, dtype=dtype)
    rope = Rope.table(3 * PAGE, config_of(heads), like=qkv)
    each = zip(KERNELS, held, strict=True)
    mine, expected = (k.attend(qkv, rope, rows.to(DEVICE), pages, heads) for k, pages in each)
    close(mine, clean(expected, qkv, heads))
    for written, right in ((held[0].keys, held[1].keys), (held[0].values, held[1].values)):
        torch.testing.assert_close(written, right, atol=FORMATS[dtype], rtol=FORMATS[dtype], equal_nan=True)


def clean(expected: Tensor, qkv: Tensor, heads: Heads) -> Tensor:
    """Torch's attention lets a NaN through its mask; the first row sees its own value alone."""
    own = qkv[0].unflatten(0, (-1, heads.dim))[-heads.shared :].repeat_interleave(heads.per_shared, 0)
    return torch.cat((own.flatten()[None], expected[1:]))


def config_of(heads: Heads) -> LlamaConfig:
    return replace(CONFIG, width=heads.query * heads.dim, num_heads=heads.query, num_kv_heads=heads.shared)
