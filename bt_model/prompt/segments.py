"""Dialogues to prompt segments: templates, the place of the video, and the rule for special ids.

Special ids are inserted by number, never spelled: text from outside is encoded piece by piece without any
special token (backends spec, section 5 rule 6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bt_model.generation.request import Segment, Soft, Tokens
from bt_model.prompt.templates import Template
from bt_model.prompt.tokenizer import Spelling
from bt_model.types import Turn, check_turns


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Token ids that only the server inserts; models without markers around a video have none."""

    bos: int
    eos: int
    video_start: int | None = None
    video_end: int | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A dialogue with its answers: the segments, and at which positions of them each answer stands.

    A range counts soft tokens too, and includes what ends the answer; a text's own tokens are the answer's
    where they begin in it, or in the space before it.
    """

    segments: tuple[Segment, ...]
    answers: tuple[range, ...]


def segments(
    turns: Sequence[Turn],
    style: Template,
    ids: SpecialIds,
    encode: Callable[[str], list[int]],
    video: Soft | None,
) -> tuple[Segment, ...]:
    """The prompt of a dialogue: one BOS at the very start, the video in the first user's turn.

    Raises:
        InvalidValueError: see `check_turns`.
    """
    check_turns(turns)
    prompt = _Prompt(ids, encode)
    _write(prompt, turns, style, video)
    return prompt.segments()


def answered(
    turns: Sequence[Turn],
    style: Template,
    ids: SpecialIds,
    spell: Callable[[str], Spelling],
    video: Soft | None,
) -> Dialogue:
    """A dialogue up to and including an answer, spelled as it will be when it has become history.

    Raises:
        InvalidValueError: see `check_turns`; here the last turn is an assistant's, with text.
    """
    check_turns([*turns, Turn("user", "?")])
    prompt = _AnsweredPrompt(ids, spell)
    _write(prompt, turns, style, video)
    return Dialogue(prompt.segments(), tuple(prompt.answers))


def _write(prompt: "_Prompt", turns: Sequence[Turn], style: Template, video: Soft | None) -> None:
    system = turns[0].text if turns[0].role == "system" else None
    spoken = turns if system is None else turns[1:]
    prompt.text = style.opening(system)
    for number, turn in enumerate(spoken):
        if turn.role == "assistant":
            prompt.answer(turn.text, style.answer_end)
            continue
        prompt.text += style.user
        if number == 0 and video is not None:
            prompt.place(video, turn.text, style)
        else:
            prompt.text += turn.text
        prompt.text += style.between + style.assistant
        if number + 1 < len(spoken):
            prompt.text = prompt.text.rstrip()  # what follows brings its own space


class _Prompt:
    """A prompt in the making: finished segments, ids of the run that is open, and its last text."""

    def __init__(self, ids: SpecialIds, encode: Callable[[str], list[int]]) -> None:
        self.text = ""
        self._ids = ids
        self._encode = encode
        self._done: list[Segment] = []
        self._run = [ids.bos]

    def place(self, video: Soft, text: str, style: Template) -> None:
        """A user's text and the video, in the template's order."""
        start, end = self._ids.video_start, self._ids.video_end
        self.text += style.before_video if style.is_video_first else f"{text}{style.before_video}"
        self._flush()
        marked = (*self._run, start) if start is not None else tuple(self._run)
        self._done += [Tokens(marked), video]
        self._run = [end] if end is not None else []
        self.text = f"{style.after_video}{text}" if style.is_video_first else style.after_video

    def answer(self, text: str, end: str) -> None:
        """An answer and its end: the template's text, or the end-of-sequence token."""
        self.text += f" {text}{end}"
        if not end:
            self._flush()
            self._run.append(self._ids.eos)

    def segments(self) -> tuple[Segment, ...]:
        self._flush()
        return (*self._done, Tokens(tuple(self._run)))

    def _flush(self) -> None:
        self._run += self._encode(self.text)
        self.text = ""


class _AnsweredPrompt(_Prompt):
    """A prompt that remembers at which positions its answers stand."""

    def __init__(self, ids: SpecialIds, spell: Callable[[str], Spelling]) -> None:
        super().__init__(ids, lambda text: spell(text).ids)
        self.answers: list[range] = []
        self._spell = spell
        self._said: list[range] = []  # characters of the open text that are an answer's

    def answer(self, text: str, end: str) -> None:
        begin = len(self.text)
        self._said.append(range(begin, begin + len(f" {text}{end}")))
        super().answer(text, end)
        if not end:
            self.answers[-1] = range(self.answers[-1].start, self.answers[-1].stop + 1)

    def _flush(self) -> None:
        done = sum(len(s.ids) if isinstance(s, Tokens) else len(s.embeds) for s in self._done)
        spelling = self._spell(self.text)
        for said in self._said:
            inside = [n for n, begin in enumerate(spelling.begins, done + len(self._run)) if begin in said]
            self.answers.append(range(inside[0], inside[-1] + 1))
        self._said.clear()
        self._run += spelling.ids
        self.text = ""
