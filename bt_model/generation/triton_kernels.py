# pyright: basic, reportMissingImports=false, reportIndexIssue=false
"""Decode kernels in Triton.

B rows, H query heads in G groups that share keys and values, D head width, S splits of a row's positions.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from bt_model.generation.chunk import PAGE
from bt_model.generation.decode_kernels import MAX_SPLITS, LayerPages, num_splits
from bt_model.generation.kv_cache import Heads
from bt_model.generation.rope import Rope

_TILE = 16  # the least side of a matrix product
_GATE_BLOCK = 1024


class TritonKernels:
    """Implements `DecodeKernels` over contiguous tensors: a kernel each, two for attention over few rows."""

    def add_norm(self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        total, normed = x if delta is None else x.new_empty(x.shape), x.new_empty(x.shape)
        width = x.shape[1]
        _add_norm[(len(x),)](
            x, x if delta is None else delta, weight, total, normed, eps,
            HAS_DELTA=delta is not None, WIDTH=width, BLOCK=triton.next_power_of_2(width), num_warps=8,
        )  # fmt: skip
        return total, normed

    def attend(self, qkv: Tensor, rope: Rope, rows: Tensor, pages: LayerPages, heads: Heads) -> Tensor:
        count = len(qkv)
        seen = qkv.new_empty(count, heads.query * heads.dim)
        splits = num_splits(count * heads.shared)
        parts = sums = seen
        if splits > 1:
            parts = qkv.new_empty((count, heads.query, splits, heads.dim), dtype=torch.float32)
            sums = parts.new_empty(count, heads.query, splits)
        dim = max(triton.next_power_of_2(heads.dim), _TILE)
        _attend[(count, heads.shared, splits)](
            qkv, rope.cos, rope.sin, rows, pages.keys, pages.values, seen, parts, sums,
            rows.shape[1], splits, heads.dim**-0.5, QUERY=heads.query, SHARED=heads.shared,
            PER=heads.per_shared, PER_TILE=max(triton.next_power_of_2(heads.per_shared), _TILE),
            DIM=heads.dim, DIM_TILE=dim, PAGE=PAGE, BLOCK=_block(dim * qkv.itemsize), IS_SPLIT=splits > 1,
            num_warps=4, num_stages=2,
        )  # fmt: skip
        if splits > 1:
            _join[(count, heads.query)](
                parts, sums, seen, splits, QUERY=heads.query, DIM=heads.dim, DIM_TILE=dim, MAX=MAX_SPLITS,
                num_warps=2,
            )  # fmt: skip
        return seen

    def gate(self, gate_up: Tensor) -> Tensor:
        count, width = len(gate_up), gate_up.shape[1] // 2
        result = gate_up.new_empty(count, width)
        _gate[(count, triton.cdiv(width, _GATE_BLOCK))](gate_up, result, WIDTH=width, BLOCK=_GATE_BLOCK)
        return result


def _block(row_bytes: int) -> int:
    """Positions that are looked at together: two stages of keys and values stay below 64 KiB."""
    return max(_TILE, min(64, (1 << 14) // row_bytes))


@triton.jit
def _add_norm(
    x, delta, weight, total, normed, eps,
    HAS_DELTA: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Programs (B,)."""
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    is_in = at < WIDTH
    held = tl.load(x + row * WIDTH + at, mask=is_in, other=0.0)
    if HAS_DELTA:
        added = tl.load(delta + row * WIDTH + at, mask=is_in, other=0.0)
        held = (held.to(tl.float32) + added.to(tl.float32)).to(held.dtype)
        tl.store(total + row * WIDTH + at, held, mask=is_in)
    wide = held.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / WIDTH + eps)
    weights = tl.load(weight + at, mask=is_in, other=0.0).to(tl.float32)
    tl.store(normed + row * WIDTH + at, (wide * scale * weights).to(held.dtype), mask=is_in)


@triton.jit
def _gate(gate_up, result, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Programs (B, blocks)."""
    row = tl.program_id(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_in = at < WIDTH
    gate = tl.load(gate_up + row * 2 * WIDTH + at, mask=is_in, other=0.0)
    up = tl.load(gate_up + row * 2 * WIDTH + WIDTH + at, mask=is_in, other=0.0)
    wide = gate.to(tl.float32)
    silu = wide / (1 + tl.exp(-wide))
    tl.store(result + row * WIDTH + at, (silu * up.to(tl.float32)).to(gate.dtype), mask=is_in)


@triton.jit(do_not_specialize=["width", "splits"])
def _attend(
    qkv, cos, sin, rows, keys, values, seen, parts, sums, width, splits, scale,
    QUERY: tl.constexpr, SHARED: tl.constexpr, PER: tl.constexpr, PER_TILE: tl.constexpr,
    DIM: tl.constexpr, DIM_TILE: tl.constexpr, PAGE: tl.constexpr, BLOCK: tl.constexpr,
    IS_SPLIT: tl.constexpr,
):  # fmt: skip
    """Programs (B, G, S). The one that comes to the new position writes it, and has it in its registers."""
    row, group, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    table = rows + row * width + 1
    position = tl.load(table - 1)
    dims, mine = tl.arange(0, DIM_TILE)[None, :], tl.arange(0, PER_TILE)
    in_dim = dims < DIM
    in_q = (mine < PER)[:, None] & in_dim
    cosine = tl.load(cos + position * DIM + dims, mask=in_dim, other=0.0).to(tl.float32)
    sine = tl.load(sin + position * DIM + dims, mask=in_dim, other=0.0).to(tl.float32)
    at = qkv + row * (QUERY + 2 * SHARED) * DIM
    heads = group * PER + mine
    q = _turned(at + heads[:, None] * DIM, cosine, sine, in_q, DIM, DIM_TILE).to(keys.dtype.element_ty)
    num_blocks = position // BLOCK + 1
    first = split * tl.cdiv(num_blocks, splits)
    end = tl.minimum(first + tl.cdiv(num_blocks, splits), num_blocks)
    most, total, result = _past(
        q, keys, values, table, first, tl.minimum(end, num_blocks - 1), group, in_dim, scale,
        SHARED, PER_TILE, DIM, DIM_TILE, PAGE, BLOCK,
    )  # fmt: skip
    if (first < end) & (end == num_blocks):
        at += (QUERY + group) * DIM
        new_k = _turned(at, cosine, sine, in_dim, DIM, DIM_TILE).to(q.dtype)
        cells = _cells(table, end - 1, group, SHARED, PAGE, BLOCK, DIM) + dims
        behind = (end - 1) * BLOCK + tl.arange(0, BLOCK)[:, None] - position
        k = _with_new(keys + cells, new_k, behind, in_dim)
        v = _with_new(values + cells, tl.load(at + SHARED * DIM + dims, in_dim, 0.0), behind, in_dim)
        scores = tl.where(tl.trans(behind) <= 0, _scores(q, k, scale), float("-inf"))
        most, total, result = _fold(scores, v, most, total, result)
    place = row * QUERY + heads
    if IS_SPLIT:
        place = place * splits + split
        total = tl.where(first < end, total, 1.0)  # without positions `most` is -inf, and so is the sum
        tl.store(sums + place, most + tl.log(total), mask=mine < PER)
        seen = parts
    tl.store(seen + place[:, None] * DIM + dims, result / total[:, None], mask=in_q)


@triton.jit
def _past(
    q, keys, values, table, first, end, group, in_dim, scale,
    SHARED: tl.constexpr, PER_TILE: tl.constexpr, DIM: tl.constexpr, DIM_TILE: tl.constexpr,
    PAGE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Whole blocks of positions, all of them known."""
    dims = tl.arange(0, DIM_TILE)[None, :]
    most = tl.full([PER_TILE], float("-inf"), tl.float32)
    total = tl.zeros([PER_TILE], tl.float32)
    result = tl.zeros([PER_TILE, DIM_TILE], tl.float32)
    for block in range(first, end):
        cells = _cells(table, block, group, SHARED, PAGE, BLOCK, DIM) + dims
        k = tl.load(keys + cells, mask=in_dim, other=0.0)
        v = tl.load(values + cells, mask=in_dim, other=0.0)
        most, total, result = _fold(_scores(q, k, scale), v, most, total, result)
    return most, total, result


@triton.jit
def _turned(at, cosine, sine, is_in, DIM: tl.constexpr, DIM_TILE: tl.constexpr):
    """Heads that begin at `at`, each pair (i, i + D / 2) turned, in float32."""
    dims = tl.arange(0, DIM_TILE)[None, :]
    other = tl.where(dims < DIM // 2, dims + DIM // 2, dims - DIM // 2)
    turned = tl.load(at + dims, mask=is_in, other=0.0).to(tl.float32) * cosine
    return turned + tl.load(at + other, mask=is_in, other=0.0).to(tl.float32) * sine


@triton.jit
def _cells(
    table, block, group, SHARED: tl.constexpr, PAGE: tl.constexpr, BLOCK: tl.constexpr, DIM: tl.constexpr
):  # fmt: skip
    """Where a block's positions begin in the keys and the values, (BLOCK, 1)."""
    page = tl.load(table + block * BLOCK // PAGE).to(tl.int64)
    offset = block * BLOCK % PAGE + tl.arange(0, BLOCK)
    return (((page * SHARED + group) * PAGE + offset) * DIM)[:, None]


@triton.jit
def _with_new(cells, new, behind, in_dim):
    """A block up to its newest position, which is written; what lies behind that is not read."""
    held = tl.load(cells, mask=(behind < 0) & in_dim, other=0.0)
    held = tl.where(behind == 0, new, held)
    tl.store(cells, held, mask=(behind == 0) & in_dim)
    return held


@triton.jit
def _scores(q, k, scale):
    return tl.dot(q, tl.trans(k), input_precision="ieee") * scale


@triton.jit
def _fold(scores, v, most, total, result):
    """A softmax that goes on by a block of scores and their values."""
    greater = tl.maximum(most, tl.max(scores, 1))
    shrink = tl.exp(most - greater)
    shares = tl.exp(scores - greater[:, None])
    total = total * shrink + tl.sum(shares, 1)
    result = result * shrink[:, None] + tl.dot(shares.to(v.dtype), v, input_precision="ieee")
    return greater, total, result


@triton.jit(do_not_specialize=["splits"])
def _join(
    parts, sums, seen, splits,
    QUERY: tl.constexpr, DIM: tl.constexpr, DIM_TILE: tl.constexpr, MAX: tl.constexpr,
):  # fmt: skip
    """Programs (B, H): the splits' results, weighted by what each has seen."""
    place = tl.program_id(0) * QUERY + tl.program_id(1)
    each, dims = tl.arange(0, MAX), tl.arange(0, DIM_TILE)
    is_in, in_dim = each < splits, dims < DIM
    share = tl.load(sums + place * splits + each, mask=is_in, other=float("-inf"))
    weights = tl.exp(share - tl.max(share, 0))
    at = parts + (place * splits + each)[:, None] * DIM + dims[None, :]
    results = tl.load(at, mask=is_in[:, None] & in_dim[None, :], other=0.0)
    joined = tl.sum(results * weights[:, None], 0) / tl.sum(weights, 0)
    tl.store(seen + place * DIM + dims, joined.to(seen.dtype.element_ty), mask=in_dim)
