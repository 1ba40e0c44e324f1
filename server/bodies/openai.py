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
    Body,
    EchoedFields,
    FewErrors,
    Ignored,
    MaxTokens,
    ModelName,
    OptionsBody,
    SamplingBody,
    Text,
)
from server.bodies.refusals import not_offered
from server.bodies.rules import say_completion, say_file, say_message, say_part

MAX_CHOICES = 8

Empty = Annotated[list[object], Field(max_length=0)] | Annotated[dict[str, object], Field(max_length=0)]


def _as_parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class FileBody(Body):
    """A file part, the form that gateways pass on."""

    model_config = ConfigDict(json_schema_extra=say_file)

    file_id: Url | None = None
    file_data: Url | None = None
    filename: Ignored = None


class PartBody(Body):
    """One part of a message; the field that `type` names holds its value."""

    model_config = ConfigDict(json_schema_extra=say_part)

    type: Literal["text", "video_url", "video", "input_video", "image_url", "file"]
    text: Text | None = None
    video_url: Media | None = None
    video: Media | None = None
    input_video: Media | None = None
    image_url: Media | None = None
    file: FileBody | None = None
    uuid: Ignored = None
    cache_control: Ignored = None


Parts = Annotated[FewErrors[PartBody], Field(max_length=MAX_PARTS)]

Content = Annotated[Parts | None, BeforeValidator(_as_parts, json_schema_input_type=Text | Parts | None)]


class CompletionMessage(EchoedFields):
    """One message."""

    model_config = ConfigDict(json_schema_extra=say_message)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Parts | None, BeforeValidator(_as_parts, json_schema_input_type=Text | Parts | None)
    ] = None

    @property
    def turn_role(self) -> Role:
        return "system" if self.role == "developer" else self.role


class StreamOptions(Body):
    """Additional contents of a stream."""

    include_usage: bool | None = None
    include_obfuscation: Ignored = None


class TextFormat(Body):
    """The only format of an answer."""

    type: Literal["text"]


class MediaKwargs(Body):
    """Sampling for all videos of a request, as vLLM's clients send it."""

    video: PartSampling | None = None


class ChatOptions(OptionsBody):
    """What both routes know of a question beside its messages."""

    sampling: SamplingBody | None = None
    max_completion_tokens: MaxTokens = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES), WHOLE] | None = None
    stream_options: StreamOptions | None = None

    @property
    def num_choices(self) -> int:
        return self.n or 1

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
    messages: Annotated[FewErrors[CompletionMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    video: Videos | None = None
    stream: bool | None = None  # pyright: ignore[reportIncompatibleVariableOverride] - null is allowed here
    media_io_kwargs: MediaKwargs | None = None

    tools: list[object] | None = None
    functions: list[object] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    function_call: Literal["none", "auto"] | None = None
    logit_bias: Empty | None = None
    response_format: TextFormat | None = None
    modalities: FewErrors[Literal["text"]] | None = None
    mm_processor_kwargs: Empty | None = None
    audio: None = None
    web_search_options: None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: Empty | None = None
    skip_special_tokens: Literal[True] | None = None
    spaces_between_special_tokens: Literal[True] | None = None
    include_stop_str_in_output: Literal[False] | None = None
    add_special_tokens: Literal[False] | None = None
    echo: Literal[False] | None = None
    use_beam_search: Literal[False] | None = None

    metadata: Ignored = None
    moderation: Ignored = None
    parallel_tool_calls: Ignored = None
    prediction: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: Ignored = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
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
