"""Dialogues to prompt segments: templates, the place of the video, and the rule for special ids.

Special ids are inserted by number, never spelled: text from outside is encoded piece by piece without any
special token (backends spec, section 5 rule 6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bt_model.backends.templates import Template
from bt_model.generation.request import Segment, Soft, Tokens
from bt_model.types import Turn, check_turns


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Token ids that only the server inserts; models without markers around a video have none."""

    bos: int
    eos: int
    video_start: int | None = None
    video_end: int | None = None


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
    system = turns[0].text if turns[0].role == "system" else None
    spoken = turns if system is None else turns[1:]
    prompt = _Prompt(style.opening(system), ids, encode)
    for number, turn in enumerate(spoken):
        if turn.role == "assistant":
            prompt.text += f" {turn.text}"
            prompt.end_answer(style.answer_end)
            continue
        prompt.text += style.user
        if number == 0 and video is not None:
            prompt.place(video, turn.text, style)
        else:
            prompt.text += turn.text
        prompt.text += style.between + style.assistant
        if number + 1 < len(spoken):
            prompt.text = prompt.text.rstrip()  # what follows brings its own space
    return prompt.segments()


class _Prompt:
    """A prompt in the making: finished segments, ids of the run that is open, and its last text."""

    def __init__(self, text: str, ids: SpecialIds, encode: Callable[[str], list[int]]) -> None:
        self.text = text
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

    def end_answer(self, text: str) -> None:
        """An answer's end: the template's text, or the end-of-sequence token."""
        self.text += text
        if not text:
            self._flush()
            self._run.append(self._ids.eos)

    def segments(self) -> tuple[Segment, ...]:
        self._flush()
        return (*self._done, Tokens(tuple(self._run)))

    def _flush(self) -> None:
        self._run += self._encode(self.text)
        self.text = ""
