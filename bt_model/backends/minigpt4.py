"""MiniGPT-4: a Q-Former without text and one linear layer before a Vicuna."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bt_model.backends.parts.bridge import Bridge, load_bridge
from bt_model.backends.parts.llm import load_llama
from bt_model.generation.request import Segment, Soft
from bt_model.prompt.segments import SpecialIds, segments, stop_ids
from bt_model.prompt.templates import Template, template
from bt_model.prompt.tokenizer import Tokenizer, open_tokenizer
from bt_model.types import GenerateOptions, Turn, VideoTokens

if TYPE_CHECKING:
    from bt_model.backends.base import BackendFiles
    from bt_model.generation.language_model import LanguageModel

DEFAULTS = GenerateOptions(max_tokens=300, temperature=1.0, top_p=0.9, repetition_penalty=1.05)


@dataclass(frozen=True, slots=True)
class MiniGpt4Backend:
    """The parts of a MiniGPT-4, already loaded; composed in `create`, or by a test."""

    lm: "LanguageModel"
    bridge: Bridge
    tokenizer: Tokenizer
    template: Template
    defaults: GenerateOptions
    name: str = "minigpt4"

    @property
    def video_dim(self) -> int:
        return self.bridge.qformer.config.video_dim

    @property
    def stop_token_ids(self) -> frozenset[int]:
        return stop_ids(self.template, SpecialIds.of(self.template, self.tokenizer))

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return self.template.stop_strings

    @torch.inference_mode()
    def segments(self, turns: Sequence[Turn], video: VideoTokens | None) -> tuple[Segment, ...]:
        soft = None if video is None else Soft(video.key, self.bridge.soft(video.tokens))
        ids = SpecialIds.of(self.template, self.tokenizer)
        return segments(turns, self.template, ids, self.tokenizer.encode, soft)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)


def create(files: "BackendFiles") -> MiniGpt4Backend:
    """Build the backend from a Vicuna folder, a BLIP-2 file (Q-Former) and MiniGPT-4's projection.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
    """
    style = template(files.template)
    tokenizer = open_tokenizer(files.needed("llm").path)
    lm = load_llama(files)
    bridge = load_bridge(files, lm.hidden_size)
    return MiniGpt4Backend(lm, bridge, tokenizer, style, files.defaults.or_else(DEFAULTS))
