"""Messages of a chat completion -> turns, and the videos that they talk about."""

from collections.abc import Iterator, Sequence

from bt_model.errors import ContextLengthError, InvalidValueError
from bt_model.types import Place, Turn, check_turns
from server.bodies.openai import CompletionBody, CompletionMessage, MediaBody, PartBody
from server.bodies.video_part import VideoPart

MAX_DIALOGUE_CHARACTERS = 1024 * 1024


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


def videos_of(body: CompletionBody) -> Iterator[VideoPart]:
    """The videos of the dialogue in order, each with its place in the text that `turns_of` gives.

    Raises:
        InvalidValueError: a sampling out of range, or a video outside the user's messages.
    """
    for number, message in enumerate(body.messages):
        yield from _videos(body, message, number)


def _text(message: CompletionMessage, number: int) -> Iterator[str]:
    for index, part in enumerate(message.content):
        if part.type == "text":
            if part.text is None:
                raise _lacking(part, f"messages[{number}].content[{index}]")
            yield part.text


def _videos(body: CompletionBody, message: CompletionMessage, number: int) -> Iterator[VideoPart]:
    before, num_after = list[str](), sum(part.type == "text" for part in message.content)
    for index, part in enumerate(message.content):
        where = f"messages[{number}].content[{index}]"
        if part.type == "text":
            before.append(part.text or "")
            num_after -= 1
            continue
        if message.role != "user":
            text = f"{where} is a video in a message of the {message.role}; allowed: user"
            raise InvalidValueError(text, param=where)
        param, media = _file(part, where) if part.type == "file" else _media(part, where)
        at = len("\n".join([*before, ""] if num_after else before))  # in front of the text that comes next
        yield VideoPart(media.url, param, body.sampling_for(media), Place(number, at))


def _media(part: PartBody, where: str) -> tuple[str, MediaBody]:
    media = {
        "video_url": part.video_url,
        "video": part.video,
        "input_video": part.input_video,
        "image_url": part.image_url,
    }.get(part.type)
    if media is None:
        raise _lacking(part, where)
    param = f"{where}.{part.type}.url"
    return param, media


def _file(part: PartBody, where: str) -> tuple[str, MediaBody]:
    if part.file is not None and part.file.file_id is not None:
        return f"{where}.file.file_id", MediaBody(url=part.file.file_id)
    if part.file is not None and part.file.file_data is not None:
        return f"{where}.file.file_data", MediaBody(url=part.file.file_data)
    raise _lacking(part, where)


def _lacking(part: PartBody, where: str) -> InvalidValueError:
    text = f"{where} is of type {part.type} and lacks the field {part.type}"
    return InvalidValueError(text, code="missing_required_parameter", param=f"{where}.{part.type}")
