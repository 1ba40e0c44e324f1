"""The contract of a chat backend: video tokens and a dialogue become a prompt, and an LLM continues it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from bt_model.checkpoints.weights import Checkpoint
from bt_model.errors import CheckpointError
from bt_model.generation.language_model import LanguageModel
from bt_model.generation.request import Segment
from bt_model.types import GenerateOptions, Quantise, TokenBound, TokenText, Turn, VideoTokens

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class BackendFiles:
    """Paths of a backend's weights, and its settings in the model file."""

    llm: Checkpoint | None
    projector: Checkpoint | None
    template: str
    num_video_tokens: int
    video_dim: int
    defaults: GenerateOptions
    device: "torch.device"
    dtype: "torch.dtype"
    qformer: Checkpoint | None = None
    entry: str = "clip"
    quantise: Quantise = "none"
    untrained: tuple[str, ...] = ()  # compatibility checks whose parts are drawn, not read
    lora: Path | None = None

    def needed(self, part: Literal["llm", "projector", "qformer"]) -> Checkpoint:
        """Raises CheckpointError: the model file does not name that part."""
        checkpoint: Checkpoint | None = getattr(self, part)
        if checkpoint is None:
            raise CheckpointError(f"the model file names no {part}, which this backend needs")
        return checkpoint


class Backend(Protocol):
    """One chat model. Holds no request state."""

    @property
    def lm(self) -> LanguageModel: ...

    @property
    def stop_token_ids(self) -> frozenset[int]: ...

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Texts that end an answer, whatever the user asks for."""
        ...

    @property
    def defaults(self) -> GenerateOptions: ...

    @property
    def text_bound(self) -> TokenBound | None:
        """The tokenizer's, if every turn's text is in the prompt, and whole; None if that is not known."""
        ...

    @property
    def max_videos(self) -> int:
        """How many videos a dialogue may have."""
        ...

    def segments(self, turns: Sequence[Turn], videos: Sequence[VideoTokens]) -> tuple[Segment, ...]:
        """The prompt of a dialogue; its videos, up to `max_videos`, are in the order of their places.

        A last turn of the assistant is the beginning of the answer: the prompt ends with its text.

        Raises:
            InvalidValueError: turns that are empty or out of order.
            ContextLengthError: more text than the decoder can hold.
        """
        ...

    def encode(self, text: str) -> Sequence[int]:
        """A text to ids, without special ones; only answers that follow a schema need it."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text; may end in U+FFFD where a character is not complete yet."""
        ...

    def token(self, number: int) -> TokenText:
        """One token by itself, for those who ask for log probabilities."""
        ...
