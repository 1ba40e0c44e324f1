"""The contract of a decoder, as the generation engine and its reference use it."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class LanguageModel(Protocol):
    """What a generation engine needs of a decoder: embeddings in, logits out, over a slotted KV cache.

    S slots, n new positions, V vocabulary, H hidden width.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def hidden_size(self) -> int: ...

    @property
    def max_context(self) -> int: ...

    def embed(self, ids: "Tensor") -> "Tensor":
        """(n,) int64 -> (n, H)."""
        ...

    def new_cache(self, num_slots: int, max_context: int) -> object:
        """An empty KV cache; opaque to the engine."""
        ...

    def prefill(self, cache: object, slot: int, embeds: "Tensor", start: int) -> "Tensor":
        """Write (n, H) at positions start.. of one slot; logits (V,) of the last position."""
        ...

    def decode(self, cache: object, slots: "Tensor", ids: "Tensor", positions: "Tensor") -> "Tensor":
        """One new token (B,) for each of B slots, written at `positions` (B,); logits (B, V)."""
        ...
