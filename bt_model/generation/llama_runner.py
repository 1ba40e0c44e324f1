"""Steps of a Llama over a paged KV cache: rows of all chunks go through its layers together.

N rows, R rows whose logits are wanted, W width, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bt_model.generation.bag_cache import BagCache
from bt_model.generation.chunk import Chunk
from bt_model.generation.gathered_cache import GatheredCache
from bt_model.generation.kv_cache import Heads, KVCache
from bt_model.generation.language_model import widened
from bt_model.generation.linear import MIN_ROWS, Linear, linear_of
from bt_model.generation.llama_layers import LlamaDecoder
from bt_model.generation.merged_layer import MergedLayer, merged_layers
from bt_model.generation.rope import turned
from bt_model.generation.step_rows import StepRows


class LlamaRunner:
    """The layers laid out for steps, and the cache.

    Args:
        decoder: the layers.
        head: (V, W), perhaps of fewer rows than the token table has.
        num_pages: of the cache.
        keep_weights: if not, the layers' own matrices are released one by one, and they can do nothing else.
    """

    def __init__(
        self, decoder: LlamaDecoder, head: Tensor, num_pages: int, *, keep_weights: bool = True
    ) -> None:
        cfg, like = decoder.cfg, decoder.norm.weight.detach()
        self._heads = Heads(cfg.num_layers, cfg.num_heads, cfg.num_kv_heads, cfg.head_dim)
        self._eps, self._width, self._vocab = cfg.eps, cfg.width, decoder.embed_tokens.num_embeddings
        self._layers = merged_layers(decoder, keep=keep_weights)
        self._norm = like
        self._head = linear_of(head.detach())
        self._rope = decoder.rope(cfg.max_context)
        is_bags = like.device.type == "cpu" and like.dtype == torch.float32
        self._cache: KVCache = (BagCache if is_bags else GatheredCache)(self._heads, num_pages, like)

    def copy(self, source: int, target: int) -> None:
        self._cache.copy(source, target)

    def clear(self, page: int) -> None:
        self._cache.clear(page)

    @torch.inference_mode()
    def forward(self, embeds: Tensor, chunks: Sequence[Chunk]) -> Iterator[Tensor | None]:
        """The chunks' rows (N, W) -> logits (R, V) of those that are last; a layer is a part of the step."""
        attention = self._cache.begin(chunks)
        rows = StepRows.of(chunks, self._rope)
        x = embeds
        for number, layer in enumerate(self._layers):
            is_end = number == len(self._layers) - 1
            qkv = _apply(layer.qkv, self._normed(x, layer.attention_norm))
            seen = attention(number, *turned(qkv, rows.rope, self._heads)).flatten(1)
            if is_end:  # nothing else is read of the other rows
                x, seen = x[rows.wanted], seen[rows.wanted]
            x = x + _apply(layer.out, seen)
            x = x + _apply(layer.down, self._gated(layer, x))
            yield self._logits(x) if is_end else None

    def _gated(self, layer: MergedLayer, x: Tensor) -> Tensor:
        gate, up = _apply(layer.gate_up, self._normed(x, layer.mlp_norm)).chunk(2, dim=1)
        return F.silu(gate).mul_(up)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (self._width,), weight, self._eps)

    def _logits(self, x: Tensor) -> Tensor:
        return widened(_apply(self._head, self._normed(x, self._norm)), self._vocab)


def _apply(linear: Linear, rows: Tensor) -> Tensor:
    """A row's result is the same whatever number of rows there are."""
    if 0 < len(rows) < MIN_ROWS:
        return linear(F.pad(rows, (0, 0, 0, MIN_ROWS - len(rows))))[: len(rows)]
    return linear(rows)
