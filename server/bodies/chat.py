"""The body of POST /v1/video/chat."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import ConfigDict, Field

from bt_model.errors import InvalidValueError
from bt_model.types import MAX_VIDEOS, Role, Sampling
from server.bodies.dialogue import MessageParts
from server.bodies.own import (
    MAX_MESSAGES,
    MAX_MODELS,
    Body,
    EchoedFields,
    FewErrors,
    Models,
    OptionsBody,
    SamplingBody,
    Text,
    VideoId,
)
from server.bodies.rules import say_own_message
from server.bodies.video_part import VideoPart


class MessageVideo(Body):
    """A video of a later message, or a further one of the first; without `sampling` it has the request's."""

    video: VideoId
    sampling: SamplingBody | None = None


class MessageBody(EchoedFields):
    """One message of a dialogue; `videos` are those that it shows beside the request's."""

    model_config = ConfigDict(json_schema_extra=say_own_message)

    role: Role
    content: Text | None
    videos: FewErrors[MessageVideo] = Field(default=[], max_length=MAX_VIDEOS)


class ChatBody(OptionsBody):
    """A dialogue about a video, which the first user's message shows; a list of models all answer it."""

    video: VideoId
    sampling: SamplingBody = SamplingBody()
    model: str | Models | None = None
    messages: Annotated[FewErrors[MessageBody], Field(min_length=1, max_length=MAX_MESSAGES)]

    def models(self) -> tuple[str | None, ...]:
        """The models named, None for the default one.

        Raises:
            InvalidValueError: a list that is empty, too long or names one twice.
        """
        if not isinstance(self.model, list):
            return (self.model,)
        if not 1 <= len(self.model) <= MAX_MODELS or len(set(self.model)) < len(self.model):
            names = ", ".join(name[:40] for name in self.model[: MAX_MODELS + 1])
            text = (
                f"model is a list of {len(self.model)} ({names}); allowed: 1 to {MAX_MODELS} different names"
            )
            raise InvalidValueError(text, param="model")
        return tuple(self.model)

    def said(self) -> list[MessageParts]:
        """The messages; the first user's begins with the request's video, each has its own before its text.

        Raises:
            InvalidValueError: a sampling out of range, or a video outside the user's messages.
        """
        sampling = self.sampling.value()
        first = next((number for number, each in enumerate(self.messages) if each.role == "user"), 0)
        shown = [list(self._shown(number, sampling)) for number in range(len(self.messages))]
        shown[first].insert(0, VideoPart(self.video, "video", sampling))
        pairs = zip(self.messages, shown, strict=True)
        return [MessageParts(message.role, [*videos, message.content or ""]) for message, videos in pairs]

    def _shown(self, number: int, sampling: Sampling) -> Iterator[VideoPart]:
        message = self.messages[number]
        for index, video in enumerate(message.videos):
            where = f"messages[{number}].videos[{index}]"
            if message.role != "user":
                text = f"{where} is a video in a message of the {message.role}; allowed: user"
                raise InvalidValueError(text, param=where)
            own = sampling if video.sampling is None else video.sampling.value()
            yield VideoPart(video.video, f"{where}.video", own)
