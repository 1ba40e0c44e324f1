"""Dialogues as rows of tokens, in the prompt format in which the tuned model is served."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bt_model.errors import InvalidValueError
from bt_model.generation.request import Soft
from bt_model.prompt.layout import PlacedVideo
from bt_model.prompt.segments import Dialogue, SpecialIds, answered
from bt_model.prompt.templates import Template
from bt_model.prompt.tokenizer import Encoding
from bt_model.training.data.dialogues import Exchange, VideoDialogue
from bt_model.training.data.tokens import TokenBatch, TokenRow, collate, token_row
from bt_model.types import Turn


@dataclass(frozen=True, slots=True)
class Speller:
    """Template, special ids and tokenizer of the serving backend."""

    style: Template
    ids: SpecialIds
    encode: Callable[[str], Encoding]

    def row(self, dialogue: VideoDialogue, num_video: int) -> TokenRow:
        """A dialogue as a row, with `num_video` placeholders for the video; its answers are supervised."""
        return token_row(self._dialogue(dialogue, num_video), self.ids.filler)

    def batch(self, dialogues: Sequence[VideoDialogue], num_video: int | Sequence[int]) -> TokenBatch:
        """Dialogues side by side; their videos' tokens are as many for all, or dialogue by dialogue."""
        counts = [num_video] * len(dialogues) if isinstance(num_video, int) else num_video
        rows = [self.row(dialogue, count) for dialogue, count in zip(dialogues, counts, strict=True)]
        return collate(rows, counts, self.ids.eos)

    def fitting(self, dialogue: VideoDialogue, num_video: int, max_length: int) -> VideoDialogue | None:
        """The dialogue without as many last turns as exceed `max_length`; None if no turn fits."""
        answers = self._dialogue(dialogue, num_video).answers
        fitting = dialogue.exchanges[: sum(answer.stop <= max_length for answer in answers)]
        return VideoDialogue(dialogue.video, fitting, dialogue.is_video_first) if fitting else None

    def _dialogue(self, dialogue: VideoDialogue, num_video: int) -> Dialogue:
        first = dialogue.is_video_first
        is_turned = first is not None and first != self.style.is_video_first
        style = self.style.turned() if is_turned else self.style
        turns = [turn for each in dialogue.exchanges for turn in _turns(each)]
        video = PlacedVideo(Soft(b"", torch.empty(num_video, 0)))
        return answered(turns, style, self.ids, self.encode, [video])


def _turns(exchange: Exchange) -> tuple[Turn, Turn]:
    return Turn("user", exchange.question), Turn("assistant", exchange.answer)


@dataclass(frozen=True, slots=True)
class FittingDialogues:
    """Dialogues that fit the context, and the numbers of shortened and of left-out ones."""

    dialogues: list[VideoDialogue]
    num_cut: int
    num_too_long: int


def fitting_dialogues(
    dialogues: Sequence[VideoDialogue], speller: Speller, num_video: int, max_length: int
) -> FittingDialogues:
    """The dialogues, shortened to the context where needed.

    Raises:
        InvalidValueError: none does.
    """
    short = [speller.fitting(each, num_video, max_length) for each in dialogues]
    fitting = [each for each in short if each is not None]
    if not fitting:
        raise InvalidValueError(
            f"data.max_length is {max_length}; allowed: more, no dialogue fits beside {num_video} tokens of "
            "video",
            param="data.max_length",
        )
    pairs = zip(short, dialogues, strict=True)
    num_cut = sum(each is not None and len(each.exchanges) < len(whole.exchanges) for each, whole in pairs)
    return FittingDialogues(fitting, num_cut, len(dialogues) - len(fitting))
