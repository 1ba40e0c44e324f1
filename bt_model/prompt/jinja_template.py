"""A checkpoint's own chat template: Jinja, rendered in transformers' sandbox, then cut at its special tokens.

Texts from outside are marked before they are rendered, wherever they spell a special token, so that none of
these is cut out of them. A video is a character of its own until then.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.generation.request import Segment, Soft, Tokens
from bt_model.prompt.tokenizer import Encoding
from bt_model.types import Turn, check_turns

_PRIVATE = range(0xE000, 0xF900)  # characters without a meaning
_TRIED = ([Turn("user", "a")], [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")])


@dataclass(frozen=True, slots=True)
class JinjaTemplate:
    """A template's source, the names that it knows tokens by (bos_token, …), and special tokens by name.

    The video comes before the text of the first user's turn, in a line of its own.

    Raises:
        CheckpointError: it cannot be rendered, or does not show the first user's turn just once.
    """

    source: str
    names: Mapping[str, str]
    specials: Mapping[str, int]

    def __post_init__(self) -> None:
        for turns in _TRIED:
            try:
                self._text(turns, *_unused([self.source, *self.specials]))
            except InvalidValueError as error:
                raise CheckpointError(f"the chat template cannot be used: {error.message}") from error

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return ()

    def segments(
        self, turns: Sequence[Turn], encode: Callable[[str], Encoding], video: Soft | None
    ) -> tuple[Segment, ...]:
        """The prompt of a dialogue.

        Raises:
            InvalidValueError: see `check_turns`; or a dialogue that the template refuses.
        """
        check_turns(turns)
        mark, place = _unused([self.source, *self.specials, *(turn.text for turn in turns)])
        before, behind = self._text(turns, mark, place if video is not None else "")
        if video is None:
            return (Tokens(self._ids(before + behind, mark, encode)),)
        runs = (self._ids(text, mark, encode) for text in (before, behind))
        first, last = (Tokens(ids) for ids in runs)
        return tuple(part for part in (first, video, last) if not isinstance(part, Tokens) or part.ids)

    def _text(self, turns: Sequence[Turn], mark: str, place: str) -> tuple[str, str]:
        """The rendered text before and behind the video, which `place` stands for."""
        from transformers.utils.chat_template_utils import render_jinja_template  # noqa: PLC0415 - slow

        messages = [{"role": turn.role, "content": self._marked(turn.text, mark)} for turn in turns]
        if place:
            first = next(message for message in messages if message["role"] == "user")
            first["content"] = f"{place}\n{first['content']}"
        context: dict[str, Any] = {**self.names, "add_generation_prompt": True}
        try:
            (rendered,), _ = render_jinja_template([messages], chat_template=self.source, **context)
        except Exception as error:  # a template raises what it wants to
            raise InvalidValueError(f"the chat template says: {error}", param="messages") from error
        parts = rendered.split(place) if place else [rendered, ""]
        if len(parts) != 2:  # noqa: PLR2004 - before and behind
            text = f"the chat template shows the first user's turn {len(parts) - 1} times, and a video once"
            raise InvalidValueError(text, param="messages")
        return parts[0], parts[1]

    def _marked(self, text: str, mark: str) -> str:
        """The text with a mark inside everything that spells a special token."""
        pattern = _pattern(self.specials)
        while pattern is not None and pattern.search(text):
            text = pattern.sub(lambda match: match[0][0] + mark + match[0][1:], text)
        return text

    def _ids(self, text: str, mark: str, encode: Callable[[str], Encoding]) -> tuple[int, ...]:
        pattern = _pattern(self.specials)
        pieces = [text] if pattern is None else re.split(f"({pattern.pattern})", text)
        ids: list[int] = []
        for number, piece in enumerate(pieces):
            ids += [self.specials[piece]] if number % 2 else encode(piece.replace(mark, "")).ids
        return tuple(ids)


def _pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    """Any of the names, the longest first; one of a single character cannot be told from text."""
    longest = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest))) if longest else None


def _unused(texts: Iterable[str]) -> tuple[str, str]:
    """Two characters that stand in none of the texts."""
    used = set().union(*texts)
    free = (chr(number) for number in _PRIVATE if chr(number) not in used)
    try:
        return next(free), next(free)
    except StopIteration:
        raise InvalidValueError("the messages use every private character", param="messages") from None
