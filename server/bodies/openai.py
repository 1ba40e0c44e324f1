"""The body of POST /v1/chat/completions, as OpenAI's clients and the field's video extensions send it.

A field for an option that is not supported accepts its neutral value only; fields that have no effect here
are accepted and ignored, each marked so.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from bt_model.errors import require
from bt_model.types import GenerateOptions, Role, Sampling, Turn
from server.bodies.media import MAX_PARTS, Media, PartSampling, Url, Videos, merged
from server.bodies.own import (
    MAX_MESSAGES,
    WHOLE,
    Always,
    Body,
    EchoedFields,
    FewErrors,
    Ignored,
    MaxTokens,
    ModelName,
    Never,
    OptionsBody,
    SamplingBody,
    Text,
)
from server.bodies.refusals import not_offered
from server.bodies.rules import ASKED, say_completion, say_file, say_message, say_part

MAX_CHOICES = 8

Empty = Annotated[list[object], Field(max_length=0)] | Annotated[dict[str, object], Field(max_length=0)]


def _as_parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class FileBody(Body):
    """A file part, the form that gateways pass on."""

    model_config = ConfigDict(json_schema_extra=say_file)

    file_id: Url | None = None
    """id of an upload"""
    file_data: Url | None = None
    """a data URL"""
    filename: Ignored = None


class PartBody(Body):
    """One part of a message; the field that `type` names holds its value."""

    model_config = ConfigDict(json_schema_extra=say_part)

    type: Literal["text", "video_url", "video", "input_video", "image_url", "file"]
    """names the field that holds the part"""
    text: Text | None = None
    """a text"""
    video_url: Media | None = None
    """a video"""
    video: Media | None = None
    """the same, as some clients spell it"""
    input_video: Media | None = None
    """the same"""
    image_url: Media | None = None
    """a picture, which is a clip of one frame, or a video"""
    file: FileBody | None = None
    """a video as a file"""
    uuid: Ignored = None
    cache_control: Ignored = None


Parts = Annotated[FewErrors[PartBody], Field(max_length=MAX_PARTS)]

Content = Annotated[Parts | None, BeforeValidator(_as_parts, json_schema_input_type=Text | Parts | None)]


class CompletionMessage(EchoedFields):
    """One message."""

    model_config = ConfigDict(json_schema_extra=say_message)

    role: Literal["system", "developer", "user", "assistant"]
    """who speaks; a developer is a system"""
    content: Annotated[
        Parts | None, BeforeValidator(_as_parts, json_schema_input_type=Text | Parts | None)
    ] = None
    """what is said and shown; neighbours of one role are one message"""

    @property
    def turn_role(self) -> Role:
        return "system" if self.role == "developer" else self.role


class StreamOptions(Body):
    """Additional contents of a stream."""

    include_usage: bool | None = None
    """whether a last chunk has the usage"""
    continuous_usage_stats: bool | None = None
    """whether every chunk with text has the usage so far"""
    include_obfuscation: Ignored = None


class MediaKwargs(Body):
    """Sampling for all videos of a request, as vLLM's clients send it."""

    video: PartSampling | None = None
    """which frames of all videos"""


class ChatOptions(OptionsBody):
    """What both routes know of a question beside its messages."""

    sampling: SamplingBody | None = None
    """which frames of all videos; what a part says goes before it"""
    max_completion_tokens: MaxTokens = None
    """the same as `max_tokens`, before which it goes"""
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES), WHOLE] | None = None
    """how many answers"""
    stream_options: StreamOptions | None = None
    """what a stream has beside the text"""

    @property
    def num_choices(self) -> int:
        return self.n or 1

    @property
    def continuous_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.continuous_usage_stats)

    def options(self) -> GenerateOptions:
        """Raises InvalidValueError for a value out of range; `max_completion_tokens` wins."""
        if self.max_completion_tokens is None:
            return super().options()
        return self.model_copy(
            update={"max_tokens": self.max_completion_tokens, "max_completion_tokens": None}
        ).options()


class CompletionBody(ChatOptions):
    """A chat completion request."""

    model_config = ConfigDict(json_schema_extra=say_completion)

    model: ModelName = None
    messages: Annotated[
        FewErrors[CompletionMessage],
        Field(min_length=1, max_length=MAX_MESSAGES, json_schema_extra=ASKED),
    ]
    """the dialogue"""
    video: Videos | None = None
    """what the first user's message shows: id, data URL or address, alone or with a sampling, or a list"""
    media_io_kwargs: MediaKwargs | None = None
    """which frames, as vLLM's clients say it; `sampling` goes before it"""

    tools: list[object] | None = None
    """not offered: none, or any with `tool_choice` none"""
    functions: list[object] | None = None
    """not offered: none, or any with `function_call` none"""
    tool_choice: Literal["none", "auto"] | None = None
    """no tool is ever called"""
    function_call: Literal["none", "auto"] | None = None
    """no function is ever called"""
    modalities: FewErrors[Literal["text"]] | None = None
    """only text is offered"""
    mm_processor_kwargs: Empty | None = None
    """not offered: an empty object"""
    audio: None = None
    """not offered"""
    web_search_options: None = None
    """not offered"""
    continue_final_message: bool | None = None
    """whether the last message is the assistant's, which the answer then goes on with; always so"""
    add_generation_prompt: bool | None = None
    """whether the last message is not the assistant's; always so"""
    chat_template_kwargs: Empty | None = None
    """not offered: an empty object"""
    skip_special_tokens: Always | None = None
    """always true"""
    spaces_between_special_tokens: Always | None = None
    """always true"""
    include_stop_str_in_output: Never | None = None
    """always false"""
    add_special_tokens: Never | None = None
    """always false: the model's own format has them"""
    echo: Never | None = None
    """not offered"""
    use_beam_search: Never | None = None
    """not offered"""

    metadata: Ignored = None
    moderation: Ignored = None
    parallel_tool_calls: Ignored = None
    prediction: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: Ignored = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """changes nothing: no model here reasons apart"""
    safety_identifier: Ignored = None
    service_tier: Ignored = None
    store: Ignored = None
    user: Ignored = None
    verbosity: Ignored = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def check_offered(self, turns: Sequence[Turn]) -> None:
        """What only the whole request tells.

        Raises:
            InvalidValueError: tools that may be called, or a prompt that is said to end as it does not.
        """
        for field, given, choice in (
            ("tools", self.tools, self.tool_choice),
            ("functions", self.functions, self.function_call),
        ):
            if given and choice != "none":
                raise not_offered(field)
        goes_on = turns[-1].role == "assistant"
        why = f"the last message is the {turns[-1].role}'s"
        for field, done in (("continue_final_message", goes_on), ("add_generation_prompt", not goes_on)):
            end: bool | None = getattr(self, field)
            require(end in (None, done), field, end, f"{done}, as {why}")

    def sampling_for(self, part: PartSampling) -> Sampling:
        """The part's values override the request's, those `media_io_kwargs`."""
        return merged(self.media_io_kwargs and self.media_io_kwargs.video, self.sampling, part)
