"""The contract of a chat backend: video tokens and a dialogue become a prompt, and an LLM continues it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from bt_model.generation.request import Segment
from bt_model.types import GenerateOptions, Turn, VideoTokens

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


class Backend(Protocol):
    """One chat model. Holds no request state."""

    @property
    def name(self) -> str: ...

    @property
    def lm(self) -> LanguageModel: ...

    @property
    def video_dim(self) -> int:
        """Width of the pooled tokens that it takes."""
        ...

    @property
    def stop_token_ids(self) -> frozenset[int]: ...

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Texts that end an answer, whatever the user asks for."""
        ...

    @property
    def defaults(self) -> GenerateOptions: ...

    def segments(self, turns: Sequence[Turn], video: VideoTokens | None) -> tuple[Segment, ...]:
        """The prompt of a dialogue; the video belongs to the first user turn.

        Raises:
            InvalidValueError: turns that are empty, out of order or do not end with the user.
        """
        ...

    def encode(self, text: str) -> list[int]:
        """Plain text to ids; text that spells a special token stays text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text; may end in U+FFFD where a character is not complete yet."""
        ...
