"""A checkpoint's own chat template: Jinja, rendered in transformers' sandbox, then cut at its special tokens.

Texts from outside are marked before they are rendered, wherever they spell a special token, so that none of
these is cut out of them. Each video is a character of its own until then.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.generation.request import Segment, Soft, Tokens
from bt_model.prompt.layout import PlacedVideo, laid_out
from bt_model.prompt.tokenizer import Encoding
from bt_model.prompt.turns import check_turns
from bt_model.types import Turn

_PRIVATE = range(0xE000, 0xF900)  # characters without a meaning
_TRIED_VIDEO = PlacedVideo(Soft(b"", None))  # pyright: ignore[reportArgumentType] - only its place counts
_TRIED = ([Turn("user", "a")], [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")])


@dataclass(frozen=True, slots=True)
class JinjaTemplate:
    """A template's source, the names that it knows tokens by (bos_token, …), and special tokens by name.

    A video comes before the text of its turn, in a line of its own; of several, each where it was given. Of a
    last answer, which goes on, what the template writes behind it is left out. A greeting that the template
    refuses, as many want the user first, is left out.

    Raises:
        CheckpointError: it cannot be rendered, or does not show the first user's turn just once.
    """

    source: str
    names: Mapping[str, str]
    specials: Mapping[str, int]

    def __post_init__(self) -> None:
        for turns in _TRIED:
            try:
                self._split(turns, [_TRIED_VIDEO])
            except InvalidValueError as error:
                raise CheckpointError(f"the chat template cannot be used: {error.message}") from error

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return ()

    def segments(
        self, turns: Sequence[Turn], encode: Callable[[str], Encoding], videos: Sequence[PlacedVideo]
    ) -> tuple[Segment, ...]:
        """The prompt of a dialogue.

        Raises:
            InvalidValueError: see `check_turns`; or a dialogue that the template refuses.
        """
        check_turns(turns)
        try:
            mark, parts = self._split(turns, videos)
        except InvalidValueError:
            if (later := _without_greeting(turns, videos)) is None:
                raise
            mark, parts = self._split(*later)
        made = (Tokens(self._ids(each, mark, encode)) if isinstance(each, str) else each for each in parts)
        return tuple(part for part in made if isinstance(part, Soft) or part.ids)

    def _split(self, turns: Sequence[Turn], videos: Sequence[PlacedVideo]) -> tuple[str, list[str | Soft]]:
        """The mark inside of what users write, and the rendered text, cut where the videos stand."""
        used = [self.source, *self.specials, *(turn.text for turn in turns)]
        mark, end, *places = _unused(used, 2 + len(videos))
        softs = dict(zip(places, (video.soft for video in videos), strict=True))
        free = iter(places)
        contents = [
            "\n".join(next(free) if isinstance(each, Soft) else self._marked(each, mark) for each in pieces)
            for pieces in laid_out(turns, videos, is_video_first=True)
        ]
        rendered = self._rendered(turns, contents, end)
        if not places:
            return mark, [rendered]
        parts = re.split(f"([{''.join(places)}])", rendered)
        for place in places:
            if (count := parts.count(place)) != 1:
                text = f"the chat template shows a user's turn {count} times, and a video once"
                raise InvalidValueError(text, param="messages")
        return mark, [softs.get(part, part) for part in parts]

    def _rendered(self, turns: Sequence[Turn], contents: Sequence[str], end: str) -> str:
        """The whole text; `end`, a character that is in none, tells where a last answer goes on."""
        from transformers.utils.chat_template_utils import render_jinja_template  # noqa: PLC0415 - slow

        pairs = zip(turns, contents, strict=True)
        messages = [{"role": turn.role, "content": content} for turn, content in pairs]
        goes_on = turns[-1].role == "assistant"
        messages[-1]["content"] += end * goes_on
        context: dict[str, Any] = {**self.names, "add_generation_prompt": not goes_on}
        try:
            (rendered,), _ = render_jinja_template([messages], chat_template=self.source, **context)
        except Exception as error:  # a template raises what it wants to
            raise InvalidValueError(f"the chat template says: {error}", param="messages") from error
        if rendered.count(end) != goes_on:
            text = "the chat template does not show an answer that goes on, or not once"
            raise InvalidValueError(text, param="messages")
        return rendered.partition(end)[0]

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


def _without_greeting(
    turns: Sequence[Turn], videos: Sequence[PlacedVideo]
) -> tuple[list[Turn], list[PlacedVideo]] | None:
    """A dialogue without the assistant's turn before the first question; None if it has none."""
    at = int(turns[0].role == "system")
    if turns[at].role != "assistant":
        return None
    moved = [replace(each, place=replace(each.place, turn=max(at, each.place.turn - 1))) for each in videos]
    return [*turns[:at], *turns[at + 1 :]], moved


def _pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    """Any of the names, the longest first; one of a single character cannot be told from text."""
    longest = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest))) if longest else None


def _unused(texts: Iterable[str], count: int) -> list[str]:
    """So many characters that stand in none of the texts."""
    used = set().union(*texts)
    free = list(islice((chr(number) for number in _PRIVATE if chr(number) not in used), count))
    if len(free) < count:
        raise InvalidValueError("the messages use every private character", param="messages")
    return free
