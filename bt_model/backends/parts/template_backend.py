"""A chat model whose prompts follow a template: LLaVA, Video-ChatGPT, MiniGPT-4."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bt_model.backends.parts.bridge import Bridge
from bt_model.errors import CheckpointError
from bt_model.generation.request import Segment, Soft
from bt_model.prompt.jinja_template import JinjaTemplate
from bt_model.prompt.layout import PlacedVideo
from bt_model.prompt.own_tokens import OwnTokens
from bt_model.prompt.segments import SpecialIds, segments, stop_ids
from bt_model.prompt.templates import OWN, TEMPLATES, Template, template
from bt_model.prompt.tokenizer import Tokenizer, encoder_within
from bt_model.types import MAX_VIDEOS, GenerateOptions, TokenBound, TokenText, Turn, VideoTokens

if TYPE_CHECKING:
    from bt_model.generation.language_model import LanguageModel


def open_style(name: str, own: OwnTokens, tokenizer: Tokenizer) -> Template | JinjaTemplate:
    """The template of that name, or the checkpoint's own.

    Raises:
        CheckpointError: the checkpoint has none, or one that cannot be used.
        UnknownNameError: no such template.
    """
    if name != OWN:
        return template(name)
    if own.chat_template is None:
        raise CheckpointError(
            f"template is {OWN!r}, but the LLM's folder has none; allowed: {', '.join(TEMPLATES)}"
        )
    names = {"bos_token": own.bos, "eos_token": own.eos}
    known = {name: token for name, token in names.items() if token is not None}
    return JinjaTemplate(own.chat_template, known, tokenizer.specials)


@dataclass(frozen=True, slots=True)
class TemplateBackend:
    """The parts, already loaded; composed in a backend's `create`, or by a test."""

    lm: "LanguageModel"
    bridge: Bridge
    tokenizer: Tokenizer
    template: Template | JinjaTemplate
    ids: SpecialIds
    defaults: GenerateOptions

    @property
    def stop_token_ids(self) -> frozenset[int]:
        if isinstance(self.template, JinjaTemplate):
            return frozenset({self.ids.eos, *self.ids.stops})
        return stop_ids(self.template, self.ids)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return self.template.stop_strings

    @property
    def text_bound(self) -> TokenBound | None:
        """A checkpoint's own template may leave out what it wants to."""
        return None if isinstance(self.template, JinjaTemplate) else self.tokenizer.bound

    @property
    def max_videos(self) -> int:
        return MAX_VIDEOS

    @torch.inference_mode()
    def segments(self, turns: Sequence[Turn], videos: Sequence[VideoTokens]) -> tuple[Segment, ...]:
        placed = [PlacedVideo(Soft(each.key, self.bridge.soft(each.tokens)), each.place) for each in videos]
        encode = encoder_within(self.tokenizer, self.lm.max_context)
        if isinstance(self.template, JinjaTemplate):
            return self.template.segments(turns, encode, placed)
        return segments(turns, self.template, self.ids, encode, placed)

    def encode(self, text: str) -> Sequence[int]:
        return self.tokenizer.encode(text).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def token(self, number: int) -> TokenText:
        return self.tokenizer.token(number)
