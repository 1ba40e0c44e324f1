"""LLaVA v1: pooled video tokens through one linear projector into a Llama (backends spec, section 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.backends.prompt import SpecialIds, Template, segments, template
from bt_model.backends.tokenizer import TextTokenizer
from bt_model.checkpoints.load import load_part
from bt_model.checkpoints.raw_config import read_config
from bt_model.config import LlamaConfig
from bt_model.errors import CheckpointError
from bt_model.generation.llama import Llama
from bt_model.generation.request import Segment, Soft
from bt_model.types import GenerateOptions, Turn, VideoTokens

if TYPE_CHECKING:
    from bt_model.backends.base import LanguageModel
    from bt_model.backends.files import BackendFiles

# A v1 checkpoint's trained markers serve where the video's own do not exist (training spec, section 2).
_MARKERS = (("<vid_start>", "<vid_end>"), ("<im_start>", "<im_end>"))


@dataclass(frozen=True, slots=True)
class LlavaBackend:
    """The parts of a LLaVA, already loaded; composed in `create`, or by a test."""

    lm: "LanguageModel"
    projector: "nn.Linear"
    tokenizer: "TextTokenizer"
    template: Template
    ids: SpecialIds
    num_video_tokens: int
    defaults: GenerateOptions
    name: str = "llava"

    @property
    def video_dim(self) -> int:
        return self.projector.in_features

    @property
    def stop_token_ids(self) -> frozenset[int]:
        return frozenset({self.ids.eos})

    @torch.inference_mode()
    def segments(self, turns: Sequence[Turn], video: VideoTokens | None) -> tuple[Segment, ...]:
        soft = None
        if video is not None:
            weight = self.projector.weight
            soft = Soft(video.key, self.projector(video.tokens.to(weight.device, weight.dtype)))
        return segments(turns, self.template, self.ids, self.tokenizer.encode, soft)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)


def create(files: "BackendFiles") -> LlavaBackend:
    """Build the backend from a LLaVA v1 folder (config.json, safetensors, tokenizer.json) and a projector.

    The ids in a published config.json are wrong; the tokenizer's are used (backends spec 2.2).

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
    """
    try:
        config = LlamaConfig.from_hf(read_config(files.llm))
    except KeyError as error:
        raise CheckpointError(f"{files.llm}/config.json: lacks the field {error}") from error
    tokenizer = TextTokenizer(files.llm / "tokenizer.json")
    with torch.device("meta"):
        lm = Llama(config)
        projector = nn.Linear(files.video_dim, config.width)
    load_part(lm, files.llm, "lm")
    load_part(projector, files.projector, "projector")
    return LlavaBackend(
        lm=lm.to(files.device, files.dtype).eval(),
        projector=projector.to(files.device, files.dtype).eval(),
        tokenizer=tokenizer,
        template=template(files.template),
        ids=special_ids(tokenizer),
        num_video_tokens=files.num_video_tokens,
        defaults=files.defaults,
    )


def special_ids(tokenizer: TextTokenizer) -> SpecialIds:
    """The ids that the prompt needs, by the names that the tokenizer has.

    Raises:
        CheckpointError: the tokenizer has no pair of video or image markers.
    """
    start, end = next((pair for pair in _MARKERS if pair[0] in tokenizer), _MARKERS[0])
    return SpecialIds(
        bos=tokenizer.special("<s>"),
        eos=tokenizer.special("</s>"),
        video_start=tokenizer.special(start),
        video_end=tokenizer.special(end),
    )
