"""Dialogues to prompt segments: a template's parts one after another.

Special ids are inserted by number: text from outside is encoded piece by piece by a tokenizer that knows no
special token, so nobody can write one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from bt_model.errors import CheckpointError
from bt_model.generation.request import Segment, Soft, Tokens
from bt_model.prompt.jinja_template import JinjaTemplate
from bt_model.prompt.layout import PlacedVideo, laid_out
from bt_model.prompt.own_tokens import OwnTokens
from bt_model.prompt.templates import Parts, Slot, Special, Template
from bt_model.prompt.tokenizer import Encoding, Tokenizer
from bt_model.prompt.turns import check_turns
from bt_model.types import Turn


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Token ids that only the server inserts; models without markers around a video have none.

    `bos` is None where a prompt begins without one; `named` are those of the template's special tokens, and
    `stops` those that the checkpoint ends answers with.
    """

    bos: int | None
    eos: int
    video_start: int | None = None
    video_end: int | None = None
    named: Mapping[str, int] = field(default_factory=dict[str, int])
    stops: frozenset[int] = frozenset()

    @property
    def filler(self) -> int:
        """An id for the positions that soft tokens take."""
        return self.eos if self.bos is None else self.bos

    @classmethod
    def of(cls, style: Template | JinjaTemplate, tokenizer: Tokenizer, own: OwnTokens | None = None) -> Self:
        """The ids of a template's tokens, without markers around a video.

        Where the tokenizer lacks a template's first or last token, the checkpoint's own take their place.

        Raises:
            CheckpointError: the tokenizer lacks one of them.
        """
        own = own or OwnTokens()
        stops = own.stop_ids & set(tokenizer.specials.values())
        if isinstance(style, JinjaTemplate):
            eos = tokenizer.special(own.eos) if own.eos is not None else min(stops, default=None)
            if eos is None:
                raise CheckpointError("the checkpoint names no token that ends an answer: eos_token")
            return cls(None, eos, stops=stops)
        names = {name: tokenizer.special(name) for name in style.specials()}
        bos = None if style.bos is None else _known(tokenizer, style.bos, own.bos)
        return cls(bos, _known(tokenizer, style.eos, own.eos), named=names, stops=stops)


def _known(tokenizer: Tokenizer, name: str, other: str | None) -> int:
    """The id of that token, or of the other where only that is there."""
    if name not in tokenizer and other is not None and other in tokenizer:
        return tokenizer.special(other)
    return tokenizer.special(name)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A dialogue with its answers: the segments, and the range of token positions of each answer.

    Positions count soft tokens. A range includes the token that ends the answer; a token belongs to the
    answer if its first character does, or is the space before it.
    """

    segments: tuple[Segment, ...]
    answers: tuple[range, ...]


def stop_ids(style: Template, ids: SpecialIds) -> frozenset[int]:
    """Ids that end an answer: the end of the sequence, and what ends the template's answers."""
    return frozenset({ids.eos, *ids.stops, *(ids.named[name] for name in style.stop_tokens)})


def segments(
    turns: Sequence[Turn],
    style: Template,
    ids: SpecialIds,
    encode: Callable[[str], Encoding],
    videos: Sequence[PlacedVideo],
) -> tuple[Segment, ...]:
    """The prompt of a dialogue, with its videos in their places; it ends with an answer that has begun.

    Raises:
        InvalidValueError: see `check_turns`.
    """
    check_turns(turns)
    prompt = _Prompt(ids, encode)
    _write(prompt, turns, style, videos, is_open=True)
    return prompt.segments()


def answered(
    turns: Sequence[Turn],
    style: Template,
    ids: SpecialIds,
    encode: Callable[[str], Encoding],
    videos: Sequence[PlacedVideo],
) -> Dialogue:
    """A dialogue up to and including an answer, with the tokens that it has as history of a later turn.

    Raises:
        InvalidValueError: see `check_turns`; here the last turn is an assistant's, with text.
    """
    check_turns([*turns, Turn("user", "?")])
    prompt = _Prompt(ids, encode)
    _write(prompt, turns, style, videos)
    return Dialogue(prompt.segments(), prompt.answers)


def _write(
    prompt: "_Prompt",
    turns: Sequence[Turn],
    style: Template,
    videos: Sequence[PlacedVideo],
    *,
    is_open: bool = False,
) -> None:
    system = turns[0].text if turns[0].role == "system" else style.system
    if system:
        prompt.write(style.opening, system)
    laid = laid_out(turns, videos, is_video_first=style.is_video_first)
    for number, (turn, pieces) in enumerate(zip(turns, laid, strict=True), 1):
        if turn.role == "user":
            _ask(prompt, pieces, style)
        elif turn.role == "assistant" and is_open and number == len(turns):
            prompt.write((*style.past_lead, *style.begun_answer), turn.text)
        elif turn.role == "assistant":
            prompt.write(style.past_lead)
            prompt.answer(style.answer, turn.text)
            prompt.write(style.after_answer)
    if turns[-1].role == "user":
        prompt.write(style.lead)


def _ask(prompt: "_Prompt", pieces: Sequence[str | Soft], style: Template) -> None:
    at = style.user.index(Slot.USER)
    prompt.write(style.user[:at])
    for number, piece in enumerate(pieces):
        if number:
            prompt.write((style.gap,))
        if isinstance(piece, Soft):
            prompt.write(style.video, video=piece)
        else:
            prompt.write((piece,))
    prompt.write(style.user[at + 1 :])


class _Prompt:
    """A prompt in the making: finished segments, ids of the run that is open, and its last text.

    Neighbouring texts are tokenised as one. The token positions of answers are recorded.
    """

    def __init__(self, ids: SpecialIds, encode: Callable[[str], Encoding]) -> None:
        self._ids = ids
        self._encode = encode
        self._done: list[Segment] = []
        self._run = [] if ids.bos is None else [ids.bos]
        self._text = ""
        self._answers: list[list[int]] = []  # token positions of each answer
        self._spans: list[tuple[list[int], range]] = []  # an answer's, and its characters of the open text

    @property
    def answers(self) -> tuple[range, ...]:
        """Once `segments` was called."""
        return tuple(range(positions[0], positions[-1] + 1) for positions in self._answers)

    def write(
        self, parts: Parts, text: str = "", video: Soft | None = None, answer: list[int] | None = None
    ) -> None:
        """Parts one after another, with this text and video in their slots; `answer` gets their positions."""
        for part in parts:
            if isinstance(part, Special):
                self._insert(self._ids.named[part.name], answer)
            elif part is Slot.EOS:
                self._insert(self._ids.eos, answer)
            elif part is Slot.VIDEO:
                assert video is not None, "only the video's own parts have its slot"
                self._insert_video(video)
            else:
                added = part if isinstance(part, str) else text
                if answer is not None:
                    self._spans.append((answer, range(len(self._text), len(self._text) + len(added))))
                self._text += added

    def answer(self, parts: Parts, text: str) -> None:
        """An answer of the history."""
        self._answers.append([])
        self.write(parts, text, answer=self._answers[-1])

    def segments(self) -> tuple[Segment, ...]:
        self._flush()
        return (*self._done, Tokens(tuple(self._run)))

    def _insert(self, number: int, answer: list[int] | None) -> None:
        self._flush()
        if answer is not None:
            answer.append(self._length())
        self._run.append(number)

    def _insert_video(self, video: Soft) -> None:
        self._flush()
        start, end = self._ids.video_start, self._ids.video_end
        marked = (*self._run, start) if start is not None else tuple(self._run)
        self._done += [Tokens(marked), video] if marked else [video]
        self._run = [end] if end is not None else []

    def _flush(self) -> None:
        encoding = self._encode(self._text)
        for answer, characters in self._spans:
            tokens = enumerate(encoding.starts, self._length())
            answer += [position for position, start in tokens if start in characters]
        self._spans.clear()
        self._run += encoding.ids
        self._text = ""

    def _length(self) -> int:
        lengths = (len(s.ids) if isinstance(s, Tokens) else len(s.embeds) for s in self._done)
        return sum(lengths) + len(self._run)
