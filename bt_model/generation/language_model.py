"""The contract of a decoder, as the generation engine and its reference use it."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch.nn.functional as F

from bt_model.generation.chunk import Chunk

if TYPE_CHECKING:
    from torch import Tensor


class LanguageModel(Protocol):
    """What a generation engine needs of a decoder. V vocabulary, W hidden width."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def hidden_size(self) -> int: ...

    @property
    def max_context(self) -> int: ...

    @property
    def page_bytes(self) -> int:
        """Memory of one page of the cache."""
        ...

    @property
    def decoder(self) -> str:
        """Whose code computes it."""
        ...

    @property
    def shares_prefixes(self) -> bool:
        """Whether a page may belong to several sequences."""
        ...

    def embed(self, ids: "Tensor") -> "Tensor":
        """(n,) int64 -> (n, W)."""
        ...

    def start(self, num_pages: int, *, keep_weights: bool = True) -> "Runner":
        """A runner with an empty cache; without `keep_weights` the decoder may be used up by it."""
        ...


class Runner(Protocol):
    """Computes steps over a paged cache, whose pages are numbered from 1.

    The chunks of a step are parts of prompts, or one generated token each.
    """

    def forward(self, embeds: "Tensor", chunks: Sequence[Chunk]) -> Iterator["Tensor | None"]:
        """Rows of all chunks (N, W) -> logits (R, V) of the chunks that are last.

        A step may come in parts, between which others may be computed: None after each, at last the logits.
        """
        ...

    def copy(self, source: int, target: int) -> None:
        """One page onto another."""
        ...

    def clear(self, page: int) -> None:
        """Forget what a page holds, which may not be finite."""
        ...


def widened(logits: "Tensor", vocab_size: int) -> "Tensor":
    """(..., rows of the head) -> (..., V): what a token table has been grown by is never said."""
    unspoken = vocab_size - logits.shape[-1]
    return F.pad(logits, (0, unspoken), value=-math.inf) if unspoken else logits


def compute(runner: Runner, embeds: "Tensor", chunks: Sequence[Chunk]) -> "Tensor":
    """A whole step; see `Runner.forward`."""
    *_, logits = runner.forward(embeds, chunks)
    assert logits is not None, "a step ends with its logits"
    return logits
