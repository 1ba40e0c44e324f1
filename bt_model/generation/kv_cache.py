"""The paged KV cache of a decoder, and attention over it.

P pages of PAGE positions, page 0 of zeros alone; N rows, H query heads, G key/value heads, D head width. A
step's rows are the positions of its chunks one after another, those of prompts first.

A row's result depends neither on other rows nor on how its prompt was cut: queries are computed in blocks at
multiples of BLOCK, whole ones, over keys up to the block's end, and what is not there is masked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from bt_model.config import LlamaConfig
from bt_model.generation.chunk import PAGE, Chunk

Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Of a step, in the layer of a number: (N, H, D) queries, (N, G, D) keys and values -> (N, H, D).

Keys and values are written, then each query sees its past.
"""


@dataclass(frozen=True, slots=True)
class Heads:
    """Numbers of a decoder's heads, and their width."""

    layers: int
    query: int
    shared: int
    dim: int

    @property
    def per_shared(self) -> int:
        """Query heads of each key/value head."""
        return self.query // self.shared


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """What the memory of any decoder's keys and values follows from."""

    max_context: int
    num_layers: int
    num_kv_heads: int
    head_dim: int


def page_bytes(config: LlamaConfig | CacheSizes, itemsize: int) -> int:
    """Memory of one page of keys and values, in every layer."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * PAGE * itemsize


class KVCache(Protocol):
    """Keys and values of all layers in pages."""

    def begin(self, chunks: Sequence[Chunk]) -> Attention:
        """The attention of a step; what it needs to know of its chunks is made once for all layers.

        Steps may overlap as long as no page belongs to two of them, or both only read it.
        """
        ...

    def copy(self, source: int, target: int) -> None:
        """One page onto another."""
        ...

    def clear(self, page: int) -> None:
        """Zeros: a NaN that is left there would survive every mask."""
        ...
