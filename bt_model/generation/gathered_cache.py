"""A KV cache for any device and number format: each sequence's pages are gathered for torch's attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from bt_model.generation.chunk import PAGE, Chunk
from bt_model.generation.decode_kernels import LayerPages
from bt_model.generation.kv_cache import Attention, Heads


@dataclass(frozen=True, slots=True)
class _Gathering:
    """Where the keys and values of a step's chunks lie, and where N new ones go."""

    chunks: Sequence[Chunk]
    tables: tuple[Tensor, ...]  # all pages up to its end, of each chunk
    new_pages: Tensor  # (N,)
    new_offsets: Tensor  # (N,)

    @classmethod
    def of(cls, chunks: Sequence[Chunk], device: torch.device) -> "_Gathering":
        new = [(c.pages[at // PAGE], at % PAGE) for c in chunks for at in range(c.start, c.end)]
        pages, offsets = zip(*new, strict=True)
        used = [page for chunk in chunks for page in chunk.used_pages]
        sizes = [len(new), len(new), *(len(chunk.used_pages) for chunk in chunks)]
        sent = torch.tensor([*pages, *offsets, *used]).to(device, non_blocking=True)  # one upload
        new_pages, new_offsets, *tables = sent.split(sizes)
        return cls(chunks, tuple(tables), new_pages, new_offsets)


class GatheredCache:
    """Keys and values (P, G, PAGE, D) of every layer."""

    def __init__(self, heads: Heads, num_pages: int, like: Tensor) -> None:
        shape = (heads.layers, 2, num_pages + 1, heads.shared, PAGE, heads.dim)
        self._tables = like.new_zeros(shape)

    def layer(self, number: int) -> LayerPages:
        """One layer's pages."""
        keys, values = self._tables[number]
        return LayerPages(keys, values)

    def begin(self, chunks: Sequence[Chunk]) -> Attention:
        return partial(self._attend_all, _Gathering.of(chunks, self._tables.device))

    def _attend_all(self, step: _Gathering, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tables = self._tables[layer]
        tables[0][step.new_pages, :, step.new_offsets] = k
        tables[1][step.new_pages, :, step.new_offsets] = v
        queries = q.split([chunk.count for chunk in step.chunks])
        each = zip(step.chunks, step.tables, queries, strict=True)
        return torch.cat([_attend(chunk, tables[:, table], q) for chunk, table, q in each])

    def copy(self, source: int, target: int) -> None:
        self._tables[:, :, target] = self._tables[:, :, source]

    def clear(self, page: int) -> None:
        self._tables[:, :, page] = 0


def _attend(chunk: Chunk, pages: Tensor, q: Tensor) -> Tensor:
    """Keys and values (2, M, G, PAGE, D) of a sequence, and (n, H, D) queries at its end -> (n, H, D)."""
    k, v = pages.transpose(1, 2).flatten(2, 3)[:, :, : chunk.end]
    bias = causal_lower_right(chunk.count, chunk.end) if chunk.count > 1 else None
    is_grouped = q.shape[1] != k.shape[0]
    seen = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None], k[None], v[None], bias, enable_gqa=is_grouped
    )
    return seen[0].transpose(0, 1)
