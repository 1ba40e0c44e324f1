"""A KV cache on a GPU: prompts attend through torch's fused attention, and rows through a decode kernel.

P pages, N rows of prompts, H query heads, G key/value heads, D head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from bt_model.generation.chunk import PAGE, Chunk
from bt_model.generation.decode_kernels import LayerPages, turned
from bt_model.generation.kv_cache import Heads
from bt_model.generation.rope import Rope


@dataclass(frozen=True, slots=True)
class Prompts:
    """The chunks of prompts in a step, with what they need on the device."""

    chunks: tuple[Chunk, ...]
    rope: Rope  # of the new positions, (N, D)
    new_pages: Tensor  # (N,)
    new_offsets: Tensor  # (N,)
    tables: tuple[Tensor, ...]  # all pages up to its end, of each chunk

    @classmethod
    def of(cls, chunks: Sequence[Chunk], rope: Rope) -> "Prompts":
        """`rope` holds the tables of all positions."""
        positions = [at for chunk in chunks for at in range(chunk.start, chunk.end)]
        pages = [chunk.pages[at // PAGE] for chunk in chunks for at in range(chunk.start, chunk.end)]
        used = [page for chunk in chunks for page in chunk.used_pages]
        sizes = [len(positions), len(pages), *(len(chunk.used_pages) for chunk in chunks)]
        sent = torch.tensor([*positions, *pages, *used]).to(rope.cos.device, non_blocking=True)  # one upload
        new, new_pages, *tables = sent.split(sizes)
        own = Rope(rope.cos[new], rope.sin[new])
        return cls(tuple(chunks), own, new_pages, new % PAGE, tuple(tables))


class PagedCache:
    """Keys and values (P, G, PAGE, D) of every layer. Page 0 is where rows that pad a step write."""

    def __init__(self, heads: Heads, num_pages: int, like: Tensor) -> None:
        self._heads = heads
        shape = (heads.layers, 2, num_pages + 1, heads.shared, PAGE, heads.dim)
        self._tables = like.new_zeros(shape)

    def layer(self, number: int) -> LayerPages:
        """One layer's pages."""
        keys, values = self._tables[number]
        return LayerPages(keys, values)

    def attend(self, number: int, qkv: Tensor, prompts: Prompts) -> Tensor:
        """Write prompts' keys and values and let them see their past: (N, (H + 2 G) D) -> (N, H D)."""
        pages = self.layer(number)
        q, k, v = turned(qkv, prompts.rope, self._heads)
        pages.keys[prompts.new_pages, :, prompts.new_offsets] = k
        pages.values[prompts.new_pages, :, prompts.new_offsets] = v
        queries = q.split([chunk.count for chunk in prompts.chunks])
        each = zip(prompts.chunks, prompts.tables, queries, strict=True)
        return torch.cat([self._seen(pages, chunk, table, q) for chunk, table, q in each])

    def _seen(self, pages: LayerPages, chunk: Chunk, table: Tensor, q: Tensor) -> Tensor:
        """(n, H, D) queries at a sequence's end -> (n, H D)."""
        keys, values = (
            x[table].transpose(0, 1).flatten(1, 2)[None, :, : chunk.end] for x in (pages.keys, pages.values)
        )
        is_grouped = self._heads.query != self._heads.shared
        bias = causal_lower_right(chunk.count, chunk.end)
        seen = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None], keys, values, bias, enable_gqa=is_grouped
        )
        return seen[0].transpose(0, 1).flatten(1)

    def copy(self, source: int, target: int) -> None:
        """One page onto another."""
        self._tables[:, :, target] = self._tables[:, :, source]

    def clear(self, page: int) -> None:
        """Zeros."""
        self._tables[:, :, page] = 0
