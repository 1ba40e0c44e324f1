"""InstructBLIP: a Q-Former that reads the instruction beside the video.

The soft tokens depend on the instruction: features are cached, soft tokens are computed for each question.
They come before the BOS, which is the end-of-sequence token in the published tokenizer.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bt_model.backends.parts.bridge import Bridge, load_bridge, qformer_config
from bt_model.backends.parts.llm import load_lm
from bt_model.errors import CheckpointError, require
from bt_model.generation.request import Segment, Soft, Tokens
from bt_model.prompt.tokenizer import Tokenizer, encoder_within, open_tokenizer
from bt_model.prompt.turns import check_turns
from bt_model.prompt.wordpiece import open_wordpiece
from bt_model.types import GenerateOptions, TokenBound, TokenText, Turn, VideoTokens

if TYPE_CHECKING:
    from bt_model.backends.base import BackendFiles
    from bt_model.generation.language_model import LanguageModel

DEFAULTS = GenerateOptions(max_tokens=256, temperature=0.0, repetition_penalty=1.5)
MAX_INSTRUCTION = 128  # tokens; a longer one is cut at its beginning
_EOS = "</s>"
_UNKNOWN = 0  # published decoding replaces it by the end-of-sequence token, so it has no text


@dataclass(frozen=True, slots=True)
class InstructBlipBackend:
    """The parts of an InstructBLIP, already loaded; composed in `create`, or by a test."""

    lm: "LanguageModel"
    bridge: Bridge
    tokenizer: Tokenizer
    instruction_tokenizer: Tokenizer
    defaults: GenerateOptions
    stop_strings: tuple[str, ...] = ()

    @property
    def stop_token_ids(self) -> frozenset[int]:
        return frozenset({self.tokenizer.special(_EOS)})

    @property
    def text_bound(self) -> TokenBound | None:
        return self.tokenizer.bound

    @property
    def max_videos(self) -> int:
        """The instruction is read beside one video, which stands before the whole prompt."""
        return 1

    @torch.inference_mode()
    def segments(self, turns: Sequence[Turn], videos: Sequence[VideoTokens]) -> tuple[Segment, ...]:
        check_turns(turns)
        begun = f" {turns[-1].text}" if turns[-1].role == "assistant" else ""
        text = prompt_text(turns[:-1] if begun else turns)
        encode = encoder_within(self.tokenizer, self.lm.max_context)
        asked = Tokens((self.tokenizer.special(_EOS), *encode(text + begun).ids))
        if not videos:
            return (asked,)
        (video,) = videos
        key = video.key + hashlib.sha256(text.encode()).digest()
        return (Soft(key, self.bridge.soft(video.tokens, self._instruction(text))), asked)

    def _instruction(self, text: str) -> torch.Tensor:
        known = self.instruction_tokenizer
        ids = known.encode(text).ids[-(MAX_INSTRUCTION - 2) :]
        return torch.tensor([known.special("[CLS]"), *ids, known.special("[SEP]")])

    def encode(self, text: str) -> Sequence[int]:
        return self.tokenizer.encode(text).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode([number for number in ids if number != _UNKNOWN])

    def token(self, number: int) -> TokenText:
        return TokenText("<unk>", None) if number == _UNKNOWN else self.tokenizer.token(number)


def prompt_text(turns: Sequence[Turn]) -> str:
    """The question, after earlier turns as a history: no format for several turns was published."""
    system = [turn.text for turn in turns if turn.role == "system"]
    *earlier, last = [turn.text for turn in turns if turn.role != "system" and turn.text]
    history = [f"dialog history: {' '.join(earlier)}"] if earlier else []
    return "\n".join([*system, *history, last])


def create(files: "BackendFiles") -> InstructBlipBackend:
    """Build the backend from Hugging Face's folder, or from a Vicuna folder and the LAVIS file.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
        InvalidValueError: a template.
    """
    require(
        files.template == "plain", "template", files.template, "plain: no format was published for its turns"
    )
    tokenizer = open_tokenizer(files.needed("llm").path)
    instruction = _instruction_tokenizer(files)
    qformer = files.needed("qformer")
    if not qformer_config(qformer).vocab_size:
        raise CheckpointError(
            f"{qformer.path}: a Q-Former without text; InstructBLIP's reads the instruction"
        )
    lm = load_lm(files)
    bridge = load_bridge(files, lm.hidden_size)
    return InstructBlipBackend(lm, bridge, tokenizer, instruction, files.defaults.or_else(DEFAULTS))


def _instruction_tokenizer(files: "BackendFiles") -> Tokenizer:
    path = (files.qformer or files.needed("llm")).path
    return open_wordpiece((path if path.is_dir() else path.parent) / "qformer_tokenizer")
