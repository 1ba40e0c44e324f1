"""The body of POST /v1/responses: a dialogue with text, pictures and videos, read as a chat completion."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from bt_model.errors import InvalidValueError
from server.bodies.described import ResponseBody
from server.bodies.formats import SCHEMA, SchemaName, SchemaWords
from server.bodies.media import MAX_PARTS, PartSampling, Url, Videos
from server.bodies.openai import Empty
from server.bodies.own import (
    MAX_MESSAGES,
    Body,
    FewErrors,
    Ignored,
    MaxTokens,
    Never,
    OptionsBody,
    Question,
    SamplingBody,
    Text,
)
from server.bodies.rules import Schema, say_fields, say_item, say_response, say_sampling, say_text_format

Message = dict[str, Any]
"""A message of a chat completion, as JSON."""

LOGPROBS = "message.output_text.logprobs"


_FIELDS: Mapping[str, tuple[str, ...]] = {
    "input_text": ("text",),
    "output_text": ("text",),
    "refusal": ("refusal",),
    "input_image": ("image_url", "file_id"),
    "input_video": ("video_url", "file_id"),
    "input_file": ("file_id", "file_data", "file_url"),
}
"""What a part holds, by its type: one of these fields."""


def _say_part(schema: Schema) -> None:
    say_sampling(schema)
    say_fields(schema, _FIELDS)


class InputPart(PartSampling):
    """A part of an item; a picture or video is a URL, a data URL or the id of an upload."""

    model_config = ConfigDict(json_schema_extra=_say_part)

    type: Literal["input_text", "output_text", "refusal", "input_image", "input_video", "input_file"]
    """what the part is"""
    text: Text | None = None
    """a text"""
    refusal: Text | None = None
    """what the model did not answer, which counts as a text"""
    image_url: Url | None = None
    """a picture or video: a data URL, an address, or the id of an upload"""
    video_url: Url | None = None
    """the same"""
    file_id: Url | None = None
    """id of an upload"""
    file_data: Url | None = None
    """a data URL"""
    file_url: Url | None = None
    """an address"""
    filename: Ignored = None
    detail: Ignored = None
    annotations: Ignored = None
    logprobs: Ignored = None
    prompt_cache_breakpoint: Ignored = None

    def message_part(self, where: str) -> Message:
        """The same as a part of a chat completion; raises InvalidValueError where its field is missing."""
        value = getattr(self, self.field())
        if value is None:
            names = _FIELDS[self.type]
            text = f"{where} is of type {self.type} and lacks {' or '.join(names)}"
            raise InvalidValueError(text, code="missing_required_parameter", param=f"{where}.{names[0]}")
        if self.type in ("input_text", "output_text", "refusal"):
            return {"type": "text", "text": value}
        sampling = self.model_dump(include=set(PartSampling.model_fields), exclude_none=True)
        kind = "image_url" if self.type == "input_image" else "video_url"
        return {"type": kind, kind: {"url": value, **sampling}}

    def field(self) -> str:
        """Which of its fields holds the part."""
        names = _FIELDS[self.type]
        return next((name for name in names if getattr(self, name) is not None), names[0])


def _as_parts(value: object) -> object:
    return [{"type": "input_text", "text": value}] if isinstance(value, str) else value


Parts = Annotated[FewErrors[InputPart], Field(max_length=MAX_PARTS)]


class InputItem(Body):
    """A message, a reference to one of an earlier response, or what a model thought, which is left out."""

    model_config = ConfigDict(json_schema_extra=say_item)

    type: Literal["message", "item_reference", "reasoning"] | None = "message"
    """what the item is"""
    role: Literal["system", "developer", "user", "assistant"] | None = None
    """who speaks; a developer is a system"""
    content: Annotated[Parts, BeforeValidator(_as_parts, json_schema_input_type=Text | Parts)] | None = None
    """what is said and shown"""
    id: Annotated[str, Field(max_length=64)] | None = None
    """of an `item_reference`, the message that it stands for"""
    status: Ignored = None
    phase: Ignored = None
    summary: Ignored = None
    encrypted_content: Ignored = None


Items = Annotated[FewErrors[InputItem], Field(min_length=1, max_length=MAX_MESSAGES)]


def _as_items(value: object) -> object:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class TextFormat(Body):
    """As `response_format` of chat completions, with the schema beside its type."""

    model_config = ConfigDict(json_schema_extra=say_text_format)

    type: Literal["text", "json_object", "json_schema"] | None = "text"
    """json_schema with a schema"""
    name: SchemaName | None = None
    """changes nothing"""
    description: SchemaWords | None = None
    """changes nothing"""
    given: Annotated[dict[str, Any] | None, SCHEMA] = None
    strict: bool | None = None
    """changes nothing: every schema is followed"""


class TextConfig(Body):
    """The format of the answer's text."""

    format: TextFormat | None = None
    """what the answer's text is: any text, a JSON object, or JSON by a schema"""
    verbosity: Ignored = None


class ResponsesBody(OptionsBody):
    """A request for a response."""

    model_config = ConfigDict(json_schema_extra=say_response)

    model: str | None = None
    """one of /v1/models; without it the first of them"""
    input: Annotated[Items, BeforeValidator(_as_items, json_schema_input_type=Question | Items)]
    """the dialogue; a text is a question alone"""
    instructions: Text | None = None
    """a system message, which the next response does not have"""
    previous_response_id: Annotated[str, Field(max_length=64)] | None = None
    """a response to go on from"""
    stream_options: Ignored = None
    max_output_tokens: MaxTokens = None
    """the same as `max_tokens`, before which it goes"""
    store: bool | None = None
    """whether it is kept for an hour, to go on from; true by default"""
    text: TextConfig | None = None
    """what the answer's text is"""
    response_format: None = None  # pyright: ignore[reportIncompatibleVariableOverride] - here it is text.format
    """not a field of responses: `text` has the format"""
    include: Annotated[list[str], Field(max_length=16)] | None = None
    """`message.output_text.logprobs` asks for log probabilities; others change nothing"""
    video: Videos | None = None
    """what the first user's message shows: id, data URL or address, alone or with a sampling, or a list"""
    sampling: SamplingBody | None = None
    """which frames of all videos"""

    tools: Annotated[list[Any], Field(max_length=128)] | None = None
    """not offered: none, or any with `tool_choice` none"""
    tool_choice: Literal["none", "auto"] | None = None
    """no tool is ever called"""
    background: Never | None = None
    """not offered"""
    truncation: Literal["disabled"] | None = None
    """what does not fit is refused"""
    context_management: Empty | None = None
    """not offered"""
    conversation: None = None
    """not offered"""
    prompt: None = None
    """not offered"""

    max_tool_calls: Ignored = None
    metadata: dict[str, str] | None = None
    """is sent back"""
    moderation: Ignored = None
    parallel_tool_calls: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: Ignored = None
    reasoning: Ignored = None
    safety_identifier: Ignored = None
    service_tier: Ignored = None
    user: Ignored = None

    @property
    def is_kept(self) -> bool:
        return self.store is not False

    def text_format(self) -> Message:
        """The format that was sent; a null inside of a schema has a meaning."""
        given = (self.text and self.text.format) or TextFormat()
        known = {name: each for name, each in given.model_dump(by_alias=True).items() if each is not None}
        return {"type": "text", **known}

    def completion_format(self) -> Message:
        """As chat completions have it: the schema one level deeper."""
        given = self.text_format()
        kind = given.pop("type")
        return {"type": kind, **({"json_schema": given} if kind == "json_schema" else given)}


class DeletedResponse(ResponseBody):
    """The answer to a deletion."""

    id: str
    """of the response that is gone"""
    object: Literal["response"] = "response"
    """always response"""
    deleted: Literal[True] = True
    """always true"""
