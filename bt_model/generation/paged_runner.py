"""Steps of a Llama on a GPU: few kernels a layer, and steps of rows as one graph.

N rows, R rows whose logits are wanted, W width, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bt_model.generation.chunk import Chunk, pages_of
from bt_model.generation.decode_graphs import BUCKETS, DecodeGraphs
from bt_model.generation.decode_kernels import DecodeKernels
from bt_model.generation.gathered_cache import GatheredCache
from bt_model.generation.kv_cache import Heads
from bt_model.generation.language_model import widened
from bt_model.generation.linear import linear_of
from bt_model.generation.llama_layers import LlamaDecoder
from bt_model.generation.merged_layer import MergedLayer, merged_layers
from bt_model.generation.rope import turned
from bt_model.generation.step_rows import StepRows

_LAYERS = 4  # of a part of a pass


class PagedRunner:
    """The layers laid out for steps, and the cache.

    Args:
        decoder: the layers.
        head: (V, W), perhaps of fewer rows than the token table has.
        num_pages: of the cache.
        kernels: what computes a step beside matrix products.
        keep_weights: if not, the layers' own matrices are released one by one, and they can do nothing else.
    """

    def __init__(
        self,
        decoder: LlamaDecoder,
        head: Tensor,
        num_pages: int,
        kernels: DecodeKernels,
        *,
        keep_weights: bool = True,
    ) -> None:
        cfg, self._norm = decoder.cfg, decoder.norm.weight.detach()
        self._heads = Heads(cfg.num_layers, cfg.num_heads, cfg.num_kv_heads, cfg.head_dim)
        self._eps, self._vocab = cfg.eps, decoder.embed_tokens.num_embeddings
        self._layers = merged_layers(decoder, keep=keep_weights)
        self._head = linear_of(head.detach())
        self._kernels = kernels
        self._rope = decoder.rope(cfg.max_context)
        self._cache = GatheredCache(self._heads, num_pages, self._norm)
        self._most_pages = pages_of(cfg.max_context)
        self._graphs = DecodeGraphs(self._decode, self._norm, 1 + self._most_pages)

    def copy(self, source: int, target: int) -> None:
        self._cache.copy(source, target)

    def clear(self, page: int) -> None:
        self._cache.clear(page)

    @torch.inference_mode()
    def forward(self, embeds: Tensor, chunks: Sequence[Chunk]) -> Iterator[Tensor | None]:
        """Rows (N, W) of chunks, all of prompts or none -> logits (R, V) of those that are last."""
        if chunks[0].is_prompt:
            yield from self._prompts(embeds, chunks)
        elif len(chunks) > BUCKETS[-1]:
            yield self._decode(embeds, self._table(chunks).to(embeds.device, non_blocking=True))
        else:
            yield self._graphs.step(embeds, self._table(chunks))

    def _table(self, rows: Sequence[Chunk]) -> Tensor:
        """(B, 1 + M) int32 on the host: the new position, then its pages."""
        most = self._most_pages
        numbers = [[row.start, *row.used_pages, *[0] * (most - len(row.used_pages))] for row in rows]
        return torch.tensor(numbers, dtype=torch.int32)

    def _prompts(self, x: Tensor, chunks: Sequence[Chunk]) -> Iterator[Tensor | None]:
        attention, rows = self._cache.begin(chunks), StepRows.of(chunks, self._rope)
        delta: Tensor | None = None
        for number, layer in enumerate(self._layers):
            x, qkv = self._projected(layer, x, delta)
            seen = attention(number, *turned(qkv, rows.rope, self._heads)).flatten(1)
            if number == len(self._layers) - 1:  # nothing else is read of the other rows
                x, seen = x[rows.wanted], seen[rows.wanted]
            x, delta = self._fed_forward(layer, x, seen)
            if (number + 1) % _LAYERS == 0 and number + 1 < len(self._layers):
                yield None
        yield self._logits(x, delta)

    def _decode(self, x: Tensor, rows: Tensor) -> Tensor:
        """(B, W) and (B, 1 + M), as of `DecodeKernels.attend` -> (B, V)."""
        delta: Tensor | None = None
        for number, layer in enumerate(self._layers):
            x, qkv = self._projected(layer, x, delta)
            seen = self._kernels.attend(qkv, self._rope, rows, self._cache.layer(number), self._heads)
            x, delta = self._fed_forward(layer, x, seen)
        return self._logits(x, delta)

    def _projected(self, layer: MergedLayer, x: Tensor, delta: Tensor | None) -> tuple[Tensor, Tensor]:
        """States with what is to be added (N, W) -> their sum; its queries, keys and values."""
        x, normed = self._kernels.add_norm(x, delta, layer.attention_norm, self._eps)
        return x, layer.qkv(normed)

    def _fed_forward(self, layer: MergedLayer, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """(N, W) and (N, H D) -> states; what the feed-forward adds to them."""
        x, normed = self._kernels.add_norm(x, layer.out(seen), layer.mlp_norm, self._eps)
        return x, layer.down(self._kernels.gate(layer.gate_up(normed)))

    def _logits(self, x: Tensor, delta: Tensor | None) -> Tensor:
        _, normed = self._kernels.add_norm(x, delta, self._norm, self._eps)
        return widened(self._head(normed), self._vocab)
