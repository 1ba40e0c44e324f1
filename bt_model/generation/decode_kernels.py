"""What a decode step computes beside matrix products, each in one call: a GPU can then do it in one kernel.

B rows, W width, H query heads, G key/value heads, D head width, I width of the feed-forward, P pages of PAGE
positions, T positions of the rotary table, M pages of a row.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bt_model.generation.chunk import PAGE
from bt_model.generation.kv_cache import Heads
from bt_model.generation.rope import Rope, turned

MAX_SPLITS = 16
PROGRAMS = 512  # keep a large GPU busy


@dataclass(frozen=True, slots=True)
class LayerPages:
    """One layer's keys and values, each (P, G, PAGE, D)."""

    keys: Tensor
    values: Tensor


class DecodeKernels(Protocol):
    """One way to compute them."""

    def add_norm(self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """(B, W) twice -> their sum, and its RMS norm."""
        ...

    def attend(self, qkv: Tensor, rope: Rope, rows: Tensor, pages: LayerPages, heads: Heads) -> Tensor:
        """One new position of each row: turn, write to its page, and let it see its past.

        Args:
            qkv: (B, (H + 2 G) D), not turned yet.
            rope: tables (T, D).
            rows: (B, 1 + M) int32: the new position, then the pages of all positions up to it.
            pages: where keys and values lie.
            heads: their numbers.

        Returns:
            (B, H D).
        """
        ...

    def gate(self, gate_up: Tensor) -> Tensor:
        """(B, 2 I) -> silu of the first half times the second, (B, I)."""
        ...


class TorchKernels:
    """By torch's operators on any device: plain, and the measure of others."""

    def add_norm(self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        total = x if delta is None else x + delta
        return total, F.rms_norm(total, weight.shape, weight, eps)

    def attend(self, qkv: Tensor, rope: Rope, rows: Tensor, pages: LayerPages, heads: Heads) -> Tensor:
        position = rows[:, 0].long()
        q, k, v = turned(qkv, rope.at(position), heads)
        newest = rows[:, 1:].gather(1, (position // PAGE)[:, None])[:, 0].long()
        pages.keys[newest, :, position % PAGE] = k
        pages.values[newest, :, position % PAGE] = v
        table = rows[:, 1:].long()
        keys, values = (x[table].transpose(1, 2).flatten(2, 3) for x in (pages.keys, pages.values))
        is_past = torch.arange(keys.shape[2], device=rows.device) <= position[:, None]
        # what others left behind a row's end may not be finite, and would survive a mask of scores
        keys, values = (torch.where(is_past[:, None, :, None], x, 0) for x in (keys, values))
        seen = F.scaled_dot_product_attention(
            q[:, :, None], keys, values, is_past[:, None, None], enable_gqa=heads.query != heads.shared
        )
        return seen.flatten(1)

    def gate(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=1)
        return F.silu(gate) * up


def num_splits(num_programs: int) -> int:
    """Parts of each row's positions, a power of two, so that attention over few rows keeps a GPU busy too."""
    wanted = -(-PROGRAMS // num_programs)
    return min(1 << (wanted - 1).bit_length(), MAX_SPLITS)
