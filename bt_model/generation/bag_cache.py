"""A KV cache for float32 on a CPU: generated tokens attend through `embedding_bag`, at the memory's pace.

A bag is a weighted sum of a table's rows. With keys transposed in their page, (D, PAGE), the bag of a page's
D rows weighted by a query is that query's scores; the bag of all positions' values weighted by the softmax is
the result. Both read through indices, so that pages may lie anywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bt_model.generation.chunk import BLOCK, PAGE, Chunk
from bt_model.generation.kv_cache import Attention, Heads


@dataclass(frozen=True, slots=True)
class _Bags:
    """Where generated tokens find what they need: M pages a row, as many as the longest has."""

    score_rows: Tensor  # (B * H * M * D,) rows of the key table
    score_bags: Tensor  # (B * H * M,)
    value_rows: Tensor  # (B * H * M * PAGE,) rows of the value table
    value_bags: Tensor  # (B * H,)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Generated tokens of a step: their bags, what of these they do not see, and where they are written."""

    bags: _Bags
    bias: Tensor  # (B, 1, M * PAGE), 0 or -inf
    new_keys: Tensor  # (B * G * D,) elements of the key table
    new_values: Tensor  # (B * G,) rows of the value table
    fresh: tuple[int, ...]  # pages of which the first position is written


class BagCache:
    """Keys (P, G, D, PAGE) and values (P, G, PAGE, D) of every layer."""

    def __init__(self, heads: Heads, num_pages: int, like: Tensor) -> None:
        self._heads = heads
        shape = (num_pages + 1, heads.shared)
        self._keys = [like.new_zeros(*shape, heads.dim, PAGE) for _ in range(heads.layers)]
        self._values = [like.new_zeros(*shape, PAGE, heads.dim) for _ in range(heads.layers)]
        self._scale = heads.dim**-0.5
        self._future = torch.full((BLOCK, BLOCK), float("-inf")).triu(1)
        self._pages: tuple[tuple[int, ...], ...] = ()  # of the generated tokens' sequences
        self._bags: _Bags | None = None

    def begin(self, chunks: Sequence[Chunk]) -> Attention:
        if chunks[0].is_prompt:
            return partial(self._attend_prompts, chunks)
        return partial(self._attend_rows, self._rows_of(chunks))

    def _rows_of(self, chunks: Sequence[Chunk]) -> _Rows:
        heads = self._heads
        pages = tuple(chunk.used_pages for chunk in chunks)
        if pages != self._pages or self._bags is None:
            self._pages, self._bags = pages, self._bags_of(pages)
        ends = torch.tensor([chunk.end for chunk in chunks])
        hidden = torch.arange(max(map(len, pages)) * PAGE) >= ends[:, None]
        bias = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))[:, None]
        offset = (ends - 1) % PAGE
        page = torch.tensor([p[-1] for p in pages])
        group = (page[:, None] * heads.shared + torch.arange(heads.shared)) * PAGE  # (B, G)
        new_keys = group[..., None] * heads.dim + torch.arange(heads.dim) * PAGE + offset[:, None, None]
        fresh = tuple(chunk.used_pages[-1] for chunk in chunks if chunk.start % PAGE == 0)
        return _Rows(self._bags, bias, new_keys.flatten(), (group + offset[:, None]).flatten(), fresh)

    def _bags_of(self, pages: Sequence[Sequence[int]]) -> _Bags:
        heads, longest = self._heads, max(map(len, pages))
        table = torch.tensor([[*row, *[0] * (longest - len(row))] for row in pages], dtype=torch.int32)
        group = torch.arange(heads.query, dtype=torch.int32) // heads.per_shared
        where = table[:, None] * heads.shared + group[:, None]  # (B, H, M)
        score_rows = where[..., None] * heads.dim + torch.arange(heads.dim, dtype=torch.int32)
        value_rows = where[..., None] * PAGE + torch.arange(PAGE, dtype=torch.int32)
        return _Bags(
            score_rows.flatten(),
            torch.arange(0, score_rows.numel(), heads.dim, dtype=torch.int32),
            value_rows.flatten(),
            torch.arange(0, value_rows.numel(), longest * PAGE, dtype=torch.int32),
        )

    def _attend_rows(self, rows: _Rows, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads, bags = self._heads, rows.bags
        keys, values = self._keys[layer], self._values[layer]
        for page in rows.fresh:
            keys[page], values[page] = 0, 0
        keys.view(-1).index_copy_(0, rows.new_keys, k.reshape(-1))
        values.view(-1, heads.dim).index_copy_(0, rows.new_values, v.reshape(-1, heads.dim))
        longest = rows.bias.shape[-1] // PAGE
        weights = (q * self._scale)[:, :, None].expand(-1, -1, longest, -1).reshape(-1)
        scores = _bag(keys.view(-1, PAGE), bags.score_rows, bags.score_bags, weights)
        weights = (scores.view(len(q), heads.query, -1) + rows.bias).softmax(-1).view(-1)
        return _bag(values.view(-1, heads.dim), bags.value_rows, bags.value_bags, weights).view(q.shape)

    def _attend_prompts(self, chunks: Sequence[Chunk], layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        counts = [chunk.count for chunk in chunks]
        each = zip(chunks, q.split(counts), k.split(counts), v.split(counts), strict=True)
        seen: list[Tensor] = []
        for chunk, queries, new_keys, new_values in each:
            self._write(layer, chunk, new_keys, new_values)
            seen.append(self._attend_blocks(layer, chunk, queries))
        return seen[0] if len(seen) == 1 else torch.cat(seen)

    def _write(self, layer: int, chunk: Chunk, k: Tensor, v: Tensor) -> None:
        """Page by page. What was left in the rest of one may not be finite, and would survive a mask."""
        keys, values = self._keys[layer], self._values[layer]
        position = chunk.start
        while position < chunk.end:
            page, begin = chunk.pages[position // PAGE], position % PAGE
            end = min(PAGE, begin + chunk.end - position)
            rows = slice(position - chunk.start, position - chunk.start + end - begin)
            if not begin:
                keys[page, :, :, end:], values[page, :, end:] = 0, 0
            keys[page, :, :, begin:end] = k[rows].permute(1, 2, 0)
            values[page, :, begin:end] = v[rows].transpose(0, 1)
            position += end - begin

    def _attend_blocks(self, layer: int, chunk: Chunk, q: Tensor) -> Tensor:
        """(n, H, D) queries of a prompt's chunk, in whole blocks."""
        heads, pages = self._heads, chunk.used_pages
        keys = torch.cat([self._keys[layer][page] for page in pages], dim=2)  # (G, D, M * PAGE)
        values = torch.cat([self._values[layer][page] for page in pages], dim=1)  # (G, M * PAGE, D)
        first, before = divmod(chunk.start, BLOCK)
        num_blocks = -(-chunk.end // BLOCK) - first
        blocks = q.new_zeros(num_blocks, BLOCK, heads.query, heads.dim)
        own = slice(before, before + chunk.count)
        torch.mul(q, self._scale, out=blocks.flatten(0, 1)[own])
        seen = torch.empty_like(blocks)
        shape = (BLOCK, heads.shared, heads.per_shared, heads.dim)
        for number, block in enumerate(blocks):
            end = (first + number + 1) * BLOCK
            rows = block.view(shape).permute(1, 2, 0, 3).reshape(heads.shared, -1, heads.dim)
            scores = torch.bmm(rows, keys[:, :, :end])  # (G, query heads of a group x BLOCK, end)
            scores.unflatten(1, (-1, BLOCK))[..., -BLOCK:] += self._future
            result = torch.bmm(scores.softmax(-1), values[:, :end])
            seen[number].view(shape).copy_(result.unflatten(1, (-1, BLOCK)).permute(2, 0, 1, 3))
        return seen.flatten(0, 1)[own]

    def copy(self, source: int, target: int) -> None:
        for table in (*self._keys, *self._values):
            table[target] = table[source]

    def clear(self, page: int) -> None:
        for table in (*self._keys, *self._values):
            table[page] = 0


def _bag(table: Tensor, rows: Tensor, bags: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of each bag's rows."""
    return torch.embedding_bag(table, rows, bags, mode=0, per_sample_weights=weights)[0]
