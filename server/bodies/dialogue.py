"""Messages as clients send them -> a conversation as models take it: roles in turn, each video in its place.

Chat pages send again what they show: an answer that failed is empty or left out, so that questions are
neighbours, and instructions may stand anywhere. None of it changes what is meant.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bt_model.errors import ContextLengthError, InvalidValueError
from bt_model.prompt.turns import check_turns
from bt_model.types import Place, Role, Turn
from server.bodies.video_part import VideoPart

MAX_DIALOGUE_CHARACTERS = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MessageParts:
    """One message of a body: its texts and videos, in order."""

    role: Role
    parts: Sequence[str | VideoPart]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, and the videos that they show, in the order of their places."""

    turns: tuple[Turn, ...]
    videos: tuple[VideoPart, ...]


def with_videos(messages: Sequence[MessageParts], videos: Iterable[VideoPart]) -> list[MessageParts]:
    """The messages, the first of which that is the user's begins with these videos."""
    first = next((number for number, each in enumerate(messages) if each.role == "user"), 0)
    before = list(videos)
    return [
        replace(each, parts=[*before, *each.parts]) if before and number == first else each
        for number, each in enumerate(messages)
    ]


def conversation_of(messages: Sequence[MessageParts]) -> Conversation:
    """What messages say together, checked before any video is decoded.

    Neighbours of one role are one turn, and all system messages are the first; texts are joined by a newline.
    A blank text is left out, and so is a message of the system or the assistant without any other. What a
    user's message shows without a text belongs to the text of its turn; the last turn has one.

    Raises:
        InvalidValueError: a user's message with neither text nor video, nothing asked, or roles out of order.
        ContextLengthError: more text than fits any model's context.
    """
    said: list[tuple[Role, list[str | VideoPart]]] = [("system", [])]
    last = 0
    for number, message in enumerate(messages):
        parts = [part for part in message.parts if not isinstance(part, str) or part.strip()]
        if not parts and message.role == "user":
            raise _empty(number, "text with at least one visible character, or a video")
        if message.role == "system":
            said[0][1].extend(parts)
        elif said[-1][0] == message.role:
            said[-1][1].extend(parts)
        elif parts:
            said.append((message.role, parts))
        last = number if message.role == "user" else last
    turns, videos = list[Turn](), list[VideoPart]()
    for role, parts in said if said[0][1] else said[1:]:
        text, shown = _written(parts, len(turns))
        turns.append(Turn(role, text))
        videos += shown
    if turns and turns[-1] == Turn("user", ""):
        raise _empty(last, "a question in the last message beside its video, or in one next to it")
    return Conversation(_bounded(turns), tuple(videos))


def _written(parts: Sequence[str | VideoPart], turn: int) -> tuple[str, list[VideoPart]]:
    """The text of a turn; each video stands in front of the line that comes next, or at the end."""
    lines = [part for part in parts if isinstance(part, str)]
    shown, at, num_before = list[VideoPart](), 0, 0
    for part in parts:
        if isinstance(part, str):
            num_before += 1
            at += len(part) + (num_before < len(lines))
        else:
            shown.append(replace(part, place=Place(turn, at)))
    return "\n".join(lines), shown


def _bounded(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    check_turns(turns)
    num_characters = sum(len(turn.text) for turn in turns)
    if num_characters > MAX_DIALOGUE_CHARACTERS:
        text = f"the messages have {num_characters} characters; at most {MAX_DIALOGUE_CHARACTERS} are allowed"
        raise ContextLengthError(text, param="messages")
    return tuple(turns)


def _empty(number: int, allowed: str) -> InvalidValueError:
    param = f"messages[{number}].content"
    return InvalidValueError(f"{param} is empty; allowed: {allowed}", param=param)
