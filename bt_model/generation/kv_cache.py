"""The KV cache, and the decoder's three kinds of attention: without a cache, prefill and decode.

S slots, T positions that a slot can hold, B rows, n new positions, H query heads, G key/value heads,
D head width.
Queries are (B, H, n, D), keys and values (B, G, n, D).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary tables, broadcastable to (B, heads, n, D); the sine carries the sign of the half turn."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def table(cls, length: int, head_dim: int, theta: float, like: Tensor) -> "Rope":
        """Positions 0..length-1, (length, D), computed in float32, with the dtype and device of `like`."""
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=like.device) / head_dim
        angles = torch.outer(torch.arange(length, dtype=torch.float32, device=like.device), theta**-exponents)
        sin = angles.sin()
        return cls(angles.cos().repeat(1, 2).to(like.dtype), torch.cat((-sin, sin), dim=1).to(like.dtype))

    def rotate(self, x: Tensor) -> Tensor:
        """(B, heads, n, D) -> same; position p's pair (i, i + D/2) is turned by p * theta^(-2i/D)."""
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, dims=-1), self.sin)


class KVCache:
    """Static keys and values per layer, (S, G, T, D), and the rotary table of all T positions.

    `written` counts, per slot, the positions that may hold something.
    """

    def __init__(self, keys: list[Tensor], values: list[Tensor], rope: Rope) -> None:
        self.keys = keys
        self.values = values
        self.rope = rope
        self.written = [0] * keys[0].shape[0]

    @classmethod
    def empty(cls, num_layers: int, shape: tuple[int, int, int, int], rope: Rope) -> "KVCache":
        """Room for `shape` (S, G, T, D) in each layer, in the dtype and device of the rotary table."""

        def room() -> list[Tensor]:
            return [rope.cos.new_zeros(shape) for _ in range(num_layers)]

        return cls(room(), room(), rope)


class AttentionPattern(Protocol):
    """How new positions see each other and the past."""

    rope: Rope

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, n, D) queries and their own (B, G, n, D) keys and values -> (B, H, n, D)."""
        ...


class CausalAttention:
    """Whole sequences at once without a cache, as in training.

    Args:
        rope: tables of the sequence's positions.
        mask: (B, n) true where a token is real; padding lies on the right.
    """

    def __init__(self, rope: Rope, mask: Tensor | None) -> None:
        self.rope = rope
        length = rope.cos.shape[0]
        self._mask = None
        if mask is not None:
            causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
            self._mask = causal & mask[:, None, None, :]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        del layer
        return F.scaled_dot_product_attention(
            q, k, v, self._mask, is_causal=self._mask is None, enable_gqa=q.shape[1] != k.shape[1]
        )


class PrefillAttention:
    """New positions start.. of one slot: written to the cache, seeing the slot's past and each other."""

    def __init__(self, cache: KVCache, slot: int, start: int, length: int) -> None:
        self.rope = Rope(cache.rope.cos[start : start + length], cache.rope.sin[start : start + length])
        self._cache, self._slot, self._start, self._end = cache, slot, start, start + length
        # a slot's new tenant must not meet the last one's leftovers: a NaN there survives any mask
        self._stale_end = cache.written[slot] if start == 0 else 0
        cache.written[slot] = self._end
        self._mask = None
        if start > 0:
            full = torch.ones(length, self._end, dtype=torch.bool, device=cache.rope.cos.device)
            self._mask = full.tril(diagonal=start)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self._cache.keys[layer][self._slot], self._cache.values[layer][self._slot]
        keys[:, self._start : self._end] = k[0]
        values[:, self._start : self._end] = v[0]
        if self._stale_end > self._end:
            keys[:, self._end : self._stale_end] = 0
            values[:, self._end : self._stale_end] = 0
        if self._mask is not None:
            k, v = keys[None, :, : self._end], values[None, :, : self._end]
        return F.scaled_dot_product_attention(
            q, k, v, self._mask, is_causal=self._mask is None, enable_gqa=q.shape[1] != k.shape[1]
        )


class DecodeAttention:
    """One new position in each of B slots, as one call over the longest row's used prefix.

    Args:
        cache: the cache to write and read.
        slots: one slot a row.
        positions: where each row's new token goes.
    """

    def __init__(self, cache: KVCache, slots: Sequence[int], positions: Sequence[int]) -> None:
        device = cache.rope.cos.device
        where = torch.tensor(positions, device=device)
        self.rope = Rope(cache.rope.cos[where][:, None, None], cache.rope.sin[where][:, None, None])
        self._cache, self._where, self._length = cache, where, max(positions) + 1
        self._slots = torch.tensor(slots, device=device)
        for slot, position in zip(slots, positions, strict=True):
            cache.written[slot] = position + 1
        # neighbouring slots are read in place; scattered ones are gathered
        neighbours = all(slot == slots[0] + i for i, slot in enumerate(slots))
        self._rows = slice(slots[0], slots[0] + len(slots)) if neighbours else self._slots
        self._mask = None
        if min(positions) != max(positions):
            seen = torch.arange(self._length, device=device) <= where[:, None]
            bias = self.rope.cos.new_zeros(seen.shape).masked_fill_(~seen, float("-inf"))
            self._mask = bias[:, None, None, :]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._slots, :, self._where] = k[:, :, 0]
        values[self._slots, :, self._where] = v[:, :, 0]
        # query heads that share a key head become its "positions": grouped heads need no copies of the keys
        grouped = q.view(k.shape[0], k.shape[1], -1, k.shape[3])
        past, content = keys[self._rows, :, : self._length], values[self._rows, :, : self._length]
        return F.scaled_dot_product_attention(grouped, past, content, self._mask).view(q.shape)
