"""The body of POST /v1/responses: a dialogue with text, pictures and videos, read as a chat completion."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from bt_model.errors import InvalidValueError
from server.bodies.media import MAX_PARTS, PartSampling, Url
from server.bodies.openai import Empty
from server.bodies.own import MAX_MESSAGES, Body, FewErrors, Ignored, OptionsBody, SamplingBody, Text, Whole

Message = dict[str, Any]
"""A message of a chat completion, as JSON."""

LOGPROBS = "message.output_text.logprobs"


class InputPart(PartSampling):
    """A part of an item; a picture or video is a URL, a data URL or the id of an upload."""

    type: Literal["input_text", "output_text", "refusal", "input_image", "input_video", "input_file"]
    text: Text | None = None
    refusal: Text | None = None
    image_url: Url | None = None
    video_url: Url | None = None
    file_id: Url | None = None
    file_data: Url | None = None
    file_url: Url | None = None
    filename: Ignored = None
    detail: Ignored = None
    annotations: Ignored = None
    logprobs: Ignored = None
    prompt_cache_breakpoint: Ignored = None

    def message_part(self, where: str) -> Message:
        """The same as a part of a chat completion; raises InvalidValueError where its field is missing."""
        if self.type in ("input_text", "output_text", "refusal"):
            field = "refusal" if self.type == "refusal" else "text"
            return {"type": "text", "text": self._required(where, field)[1]}
        _, url = self._required(where, *self._fields())
        sampling = self.model_dump(include=set(PartSampling.model_fields), exclude_none=True)
        kind = "image_url" if self.type == "input_image" else "video_url"
        return {"type": kind, kind: {"url": url, **sampling}}

    def url_field(self) -> str:
        """Which of its fields names the picture or video."""
        return next((name for name in self._fields() if getattr(self, name) is not None), "text")

    def _fields(self) -> tuple[str, ...]:
        first = {"input_image": "image_url", "input_video": "video_url"}.get(self.type)
        return (first, "file_id") if first else ("file_id", "file_data", "file_url")

    def _required(self, where: str, *names: str) -> tuple[str, str]:
        for name in names:
            if (value := getattr(self, name)) is not None:
                return name, value
        text = f"{where} is of type {self.type} and lacks {' or '.join(names)}"
        raise InvalidValueError(text, code="missing_required_parameter", param=f"{where}.{names[0]}")


def _as_parts(value: object) -> object:
    return [{"type": "input_text", "text": value}] if isinstance(value, str) else value


Parts = Annotated[FewErrors[InputPart], Field(max_length=MAX_PARTS)]


class InputItem(Body):
    """A message, a reference to one of an earlier response, or what a model thought, which is left out."""

    type: Literal["message", "item_reference", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Annotated[Parts, BeforeValidator(_as_parts, json_schema_input_type=Text | Parts)] | None = None
    id: Annotated[str, Field(max_length=64)] | None = None
    status: Ignored = None
    phase: Ignored = None
    summary: Ignored = None
    encrypted_content: Ignored = None


Items = Annotated[FewErrors[InputItem], Field(min_length=1, max_length=MAX_MESSAGES)]


def _as_items(value: object) -> object:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class TextConfig(Body):
    """The format of the answer's text."""

    format: dict[str, Any] | None = None
    verbosity: Ignored = None


class ResponsesBody(OptionsBody):
    """A request for a response."""

    model: str | None = None
    input: Annotated[Items, BeforeValidator(_as_items, json_schema_input_type=Text | Items)]
    instructions: Text | None = None
    previous_response_id: Annotated[str, Field(max_length=64)] | None = None
    stream: bool | None = None  # pyright: ignore[reportIncompatibleVariableOverride] - null is allowed here
    stream_options: Ignored = None
    max_output_tokens: Whole | None = None
    store: bool | None = None
    text: TextConfig | None = None
    include: Annotated[list[str], Field(max_length=16)] | None = None
    video: Any = None
    sampling: SamplingBody | None = None

    tools: Annotated[list[Any], Field(max_length=128)] | None = None
    tool_choice: Any = None
    background: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None
    context_management: Empty | None = None
    conversation: None = None
    prompt: None = None

    max_tool_calls: Ignored = None
    metadata: dict[str, str] | None = None
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

    def response_format(self) -> Message | None:
        """As chat completions have it: the schema one level deeper."""
        given = self.text and self.text.format
        if not given or given.get("type") != "json_schema":
            return given or None
        return {"type": "json_schema", "json_schema": {name: given[name] for name in given if name != "type"}}


class DeletedResponse(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True
