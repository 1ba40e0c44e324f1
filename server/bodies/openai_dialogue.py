"""Messages of a chat completion -> turns, and the one video that they talk about."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bt_model.errors import ContextLengthError, InvalidValueError
from bt_model.types import Turn, check_turns
from server.bodies.openai import CompletionBody, CompletionMessage, PartBody, PartSampling
from server.uploads.sources import ACCEPTED_URLS, is_video_url

MAX_DIALOGUE_CHARACTERS = 1024 * 1024


@dataclass(frozen=True, slots=True)
class VideoPart:
    """A video in a message; `param` is its position in the body, for errors."""

    url: str
    param: str
    sampling: PartSampling


def bounded_turns(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns, checked before any video is decoded.

    Raises:
        InvalidValueError: blank text, or roles out of order.
        ContextLengthError: more text than fits any model's context.
    """
    check_turns(turns)
    num_characters = sum(len(turn.text) for turn in turns)
    if num_characters > MAX_DIALOGUE_CHARACTERS:
        text = f"the messages have {num_characters} characters; at most {MAX_DIALOGUE_CHARACTERS} are allowed"
        raise ContextLengthError(text, param="messages")
    return tuple(turns)


def turns_of(body: CompletionBody) -> tuple[Turn, ...]:
    """The text of all messages. Raises as `bounded_turns`."""
    turns = [
        Turn(message.turn_role, "\n".join(_text(message, number)))
        for number, message in enumerate(body.messages)
    ]
    return bounded_turns(turns)


def video_of(body: CompletionBody) -> VideoPart | None:
    """The video of the dialogue, if there is one.

    Raises:
        InvalidValueError: more than one, or one outside the user's messages.
    """
    found = [part for number, message in enumerate(body.messages) for part in _videos(message, number)]
    for part in found[1:]:
        if part.url != found[0].url:
            text = f"{part.param} is a second video; one video in a dialogue is allowed"
            raise InvalidValueError(text, code="too_many_videos", param=part.param)
    return found[0] if found else None


def _text(message: CompletionMessage, number: int) -> Iterator[str]:
    for index, part in enumerate(message.content):
        if part.type == "text":
            if part.text is None:
                raise _lacking(part, f"messages[{number}].content[{index}]")
            yield part.text


def _videos(message: CompletionMessage, number: int) -> Iterator[VideoPart]:
    for index, part in enumerate(message.content):
        where = f"messages[{number}].content[{index}]"
        if part.type == "text":
            continue
        if message.role != "user":
            text = f"{where} is a video in a message of the {message.role}; allowed: user"
            raise InvalidValueError(text, param=where)
        yield _file(part, where) if part.type == "file" else _media(part, where)


def _media(part: PartBody, where: str) -> VideoPart:
    media = {
        "video_url": part.video_url,
        "video": part.video,
        "input_video": part.input_video,
        "image_url": part.image_url,
    }.get(part.type)
    if media is None:
        raise _lacking(part, where)
    param = f"{where}.{part.type}.url"
    if part.type == "image_url" and not is_video_url(media.url):
        text = f"{param} is an image; this model takes a video: {ACCEPTED_URLS}"
        raise InvalidValueError(text, param=param)
    return VideoPart(media.url, param, media)


def _file(part: PartBody, where: str) -> VideoPart:
    if part.file is not None and part.file.file_id is not None:
        return VideoPart(part.file.file_id, f"{where}.file.file_id", PartSampling())
    if part.file is not None and part.file.file_data is not None:
        return VideoPart(part.file.file_data, f"{where}.file.file_data", PartSampling())
    raise _lacking(part, where)


def _lacking(part: PartBody, where: str) -> InvalidValueError:
    text = f"{where} is of type {part.type} and lacks the field {part.type}"
    return InvalidValueError(text, code="missing_required_parameter", param=f"{where}.{part.type}")
