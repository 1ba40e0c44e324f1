"""A KV cache for any device and number format: each sequence's pages are gathered for torch's attention.

It is plain rather than fast, and the measure of what is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bt_model.generation.chunk import PAGE, Chunk
from bt_model.generation.kv_cache import Attention, Heads


@dataclass(frozen=True, slots=True)
class _Gathering:
    """Where the keys and values of a step's chunks lie, and where new ones go."""

    chunks: Sequence[Chunk]
    pages: list[Tensor]
    masks: list[Tensor | None]
    new_pages: Tensor
    new_offsets: Tensor

    @classmethod
    def of(cls, chunks: Sequence[Chunk], device: torch.device) -> "_Gathering":
        masks = [
            torch.ones(c.count, c.end, dtype=torch.bool, device=device).tril(c.start) if c.count > 1 else None
            for c in chunks
        ]
        new = [(c.pages[at // PAGE], at % PAGE) for c in chunks for at in range(c.start, c.end)]
        new_pages, new_offsets = torch.tensor(new, device=device).T
        pages = [torch.tensor(c.used_pages, device=device) for c in chunks]
        return cls(chunks, pages, masks, new_pages, new_offsets)


class GatheredCache:
    """Keys and values (P, G, PAGE, D) of every layer."""

    def __init__(self, heads: Heads, num_pages: int, like: Tensor) -> None:
        shape = (heads.layers, 2, num_pages + 1, heads.shared, PAGE, heads.dim)
        self._tables = like.new_zeros(shape)

    def begin(self, chunks: Sequence[Chunk]) -> Attention:
        return partial(self._attend_all, _Gathering.of(chunks, self._tables.device))

    def _attend_all(self, step: "_Gathering", layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tables = self._tables[layer]
        tables[0][step.new_pages, :, step.new_offsets] = k
        tables[1][step.new_pages, :, step.new_offsets] = v
        queries = q.split([chunk.count for chunk in step.chunks])
        each = zip(step.chunks, step.pages, step.masks, queries, strict=True)
        return torch.cat([self._attend(tables[:, pages], c.end, q, mask) for c, pages, mask, q in each])

    def _attend(self, pages: Tensor, length: int, q: Tensor, mask: Tensor | None) -> Tensor:
        """One sequence's keys and values (2, M, G, PAGE, D), its length, and (n, H, D) queries."""
        k, v = pages.transpose(1, 2).flatten(2, 3)[:, :, :length]
        is_grouped = q.shape[1] != k.shape[0]
        seen = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None], k[None], v[None], mask, enable_gqa=is_grouped
        )
        return seen[0].transpose(0, 1)

    def copy(self, source: int, target: int) -> None:
        self._tables[:, :, target] = self._tables[:, :, source]

    def clear(self, page: int) -> None:
        self._tables[:, :, page] = 0
