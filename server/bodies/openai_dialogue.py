"""Messages of a chat completion: their texts and videos."""

from collections.abc import Iterator

from bt_model.errors import InvalidValueError
from server.bodies.dialogue import MessageParts, with_videos
from server.bodies.media import MediaBody, shown_first
from server.bodies.openai import CompletionBody, CompletionMessage, PartBody
from server.bodies.video_part import VideoPart


def messages_of(body: CompletionBody) -> list[MessageParts]:
    """The messages, each with its parts in order; the first user's begins with the request's videos.

    Raises:
        InvalidValueError: a sampling out of range, or a video outside the user's messages.
    """
    messages = [
        MessageParts(message.turn_role, list(_parts(body, message, number)))
        for number, message in enumerate(body.messages)
    ]
    return with_videos(messages, [] if body.video is None else shown_first(body.video, body.sampling_for))


def _parts(body: CompletionBody, message: CompletionMessage, number: int) -> Iterator[str | VideoPart]:
    for index, part in enumerate(message.content or ()):
        where = f"messages[{number}].content[{index}]"
        if part.type == "text":
            if part.text is None:
                raise _lacking(part, where)
            yield part.text
            continue
        if message.role != "user":
            text = f"{where} is a video in a message of the {message.role}; allowed: user"
            raise InvalidValueError(text, param=where)
        param, media = _file(part, where) if part.type == "file" else _media(part, where)
        yield VideoPart(media.url, param, body.sampling_for(media))


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
