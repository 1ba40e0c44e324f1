"""A chat model whose prompts follow a template: LLaVA, Video-ChatGPT, MiniGPT-4."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bt_model.backends.parts.bridge import Bridge
from bt_model.generation.request import Segment, Soft
from bt_model.prompt.segments import SpecialIds, segments, stop_ids
from bt_model.prompt.templates import Template
from bt_model.prompt.tokenizer import Tokenizer
from bt_model.types import GenerateOptions, Turn, VideoTokens

if TYPE_CHECKING:
    from bt_model.generation.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class TemplateBackend:
    """The parts, already loaded; composed in a backend's `create`, or by a test."""

    lm: "LanguageModel"
    bridge: Bridge
    tokenizer: Tokenizer
    template: Template
    ids: SpecialIds
    defaults: GenerateOptions

    @property
    def stop_token_ids(self) -> frozenset[int]:
        return stop_ids(self.template, self.ids)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return self.template.stop_strings

    @torch.inference_mode()
    def segments(self, turns: Sequence[Turn], video: VideoTokens | None) -> tuple[Segment, ...]:
        soft = None if video is None else Soft(video.key, self.bridge.soft(video.tokens))
        return segments(turns, self.template, self.ids, self.tokenizer.encode, soft)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)
