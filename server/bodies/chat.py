"""The body of POST /v1/video/chat."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from bt_model.errors import InvalidValueError, require
from bt_model.types import MAX_VIDEOS, Role, Sampling
from server.bodies.dialogue import MessageParts, with_videos
from server.bodies.media import MAX_PARTS, PartSampling, Url, Videos, kind_of, merged, shown_first
from server.bodies.openai import ChatOptions
from server.bodies.own import (
    MAX_MESSAGES,
    MAX_MODELS,
    Body,
    EchoedFields,
    FewErrors,
    Ignored,
    Models,
    Question,
    SamplingBody,
    Text,
)
from server.bodies.replay import Fingerprint, replayed
from server.bodies.rules import ASKED, say_chat, say_own_message
from server.bodies.video_part import VideoPart


class MessageVideo(Body):
    """A video of a later message, or a further one of the first; without `sampling` it has the request's."""

    video: Url
    """id of an upload, a data URL, or an address"""
    sampling: SamplingBody | None = None
    """which of its frames"""


class TextPart(Body):
    """A text of a message."""

    type: Annotated[str, Field(pattern="^text$")]
    """always text"""
    text: Text
    """the text"""
    cache_control: Ignored = None


_Parts = Annotated[FewErrors[TextPart], Field(max_length=MAX_PARTS)]
Content = Annotated[Annotated[Text, Tag("One")] | Annotated[_Parts, Tag("List")], Discriminator(kind_of)]


class MessageBody(EchoedFields):
    """One message of a dialogue; `videos` are those that it shows beside the request's."""

    model_config = ConfigDict(json_schema_extra=say_own_message)

    role: Role
    """who speaks"""
    content: Content | None = None
    """what is said; neighbours of one role are one message"""
    videos: Annotated[FewErrors[MessageVideo], Field(max_length=MAX_VIDEOS)] | None = None
    """videos that the user shows here"""

    @property
    def texts(self) -> list[str]:
        if isinstance(self.content, str):
            return [self.content]
        return [part.text for part in self.content or ()]


def _as_messages(value: object) -> object:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


_Messages = Annotated[
    FewErrors[MessageBody], Field(min_length=1, max_length=MAX_MESSAGES, json_schema_extra=ASKED)
]
Messages = Annotated[_Messages, BeforeValidator(_as_messages, json_schema_input_type=Question | _Messages)]


class ChatBody(ChatOptions):
    """A dialogue about videos, which the first user's message shows; a list of models all answer it.

    With a `receipt` it is the request of that, in which the fields beside it take the place of others.
    """

    model_config = ConfigDict(json_schema_extra=say_chat)

    video: Videos | None
    """what the first user's message shows: id, data URL or address, alone or with a sampling, a list, null"""
    model: str | Models | None = None
    """one of /v1/models; a list asks them all; without it the first of them"""
    messages: Messages | None = None
    """the dialogue; a text is a question alone"""
    question: Annotated[Text | None, Field(description="in place of messages")] = None
    fingerprint: Fingerprint = None

    _replay = model_validator(mode="before")(replayed)

    def models(self) -> tuple[str | None, ...]:
        """The models named, None for the default one, each as often as it has choices.

        Raises:
            InvalidValueError: a list that is empty, too long or names one twice, or several choices of it.
        """
        if not isinstance(self.model, list):
            return (self.model,) * self.num_choices
        if not 1 <= len(self.model) <= MAX_MODELS or len(set(self.model)) < len(self.model):
            names = ", ".join(name[:40] for name in self.model[: MAX_MODELS + 1])
            text = (
                f"model is a list of {len(self.model)} ({names}); allowed: 1 to {MAX_MODELS} different names"
            )
            raise InvalidValueError(text, param="model")
        require(self.num_choices == 1, "n", self.n, "1 where model is a list")
        return tuple(self.model)

    def said(self) -> list[MessageParts]:
        """The messages; the first user's begins with the request's videos, each has its own before its text.

        Raises:
            InvalidValueError: a sampling out of range, a video outside the user's messages, no message, or
                a question beside them.
        """
        given = [MessageBody(role="user", content=self.question)] if self.messages is None else self.messages
        if self.messages is None and self.question is None:
            text = "messages is missing; send messages, or a question in their place"
            raise InvalidValueError(text, code="missing_required_parameter", param="messages")
        require(self.messages is None or self.question is None, "question", self.question, "without messages")
        messages = [
            MessageParts(message.role, [*self._shown(message, number), *message.texts])
            for number, message in enumerate(given)
        ]
        shown = () if self.video is None else shown_first(self.video, self._sampling_for)
        return with_videos(messages, shown)

    def _sampling_for(self, part: PartSampling) -> Sampling:
        return merged(self.sampling, part)

    def _shown(self, message: MessageBody, number: int) -> Iterator[VideoPart]:
        for index, video in enumerate(message.videos or ()):
            where = f"messages[{number}].videos[{index}]"
            if message.role != "user":
                text = f"{where} is a video in a message of the {message.role}; allowed: user"
                raise InvalidValueError(text, param=where)
            own = video.sampling or self.sampling or SamplingBody()
            yield VideoPart(video.video, f"{where}.video", own.value())
