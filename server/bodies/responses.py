"""The body of POST /v1/responses: a dialogue with text, pictures and videos, read as a chat completion."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bt_model.errors import InvalidValueError
from server.bodies.described import ResponseBody
from server.bodies.media import MAX_PARTS, PartSampling, Url
from server.bodies.openai import Empty
from server.bodies.own import MAX_MESSAGES, Body, FewErrors, Ignored, OptionsBody, SamplingBody, Text, Whole

Message = dict[str, Any]
"""A message of a chat completion, as JSON."""

LOGPROBS = "message.output_text.logprobs"


class InputPart(PartSampling):
    """A part of an item; a picture or video is a URL, a data URL or the id of an upload."""

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


class TextConfig(Body):
    """The format of the answer's text."""

    format: dict[str, Any] | None = None
    """as `response_format` of chat completions"""
    verbosity: Ignored = None


class ResponsesBody(OptionsBody):
    """A request for a response."""

    model: str | None = None
    """one of /v1/models; without it the first of them"""
    input: Annotated[Items, BeforeValidator(_as_items, json_schema_input_type=Text | Items)]
    """the dialogue; a text is a question alone"""
    instructions: Text | None = None
    """a system message, which the next response does not have"""
    previous_response_id: Annotated[str, Field(max_length=64)] | None = None
    """a response to go on from"""
    stream_options: Ignored = None
    max_output_tokens: Whole | None = None
    """the most tokens of the answer"""
    store: bool | None = None
    """whether it is kept for an hour, to go on from; true by default"""
    text: TextConfig | None = None
    """what the answer's text is"""
    response_format: None = None  # pyright: ignore[reportIncompatibleVariableOverride] - here it is text.format
    """not a field of responses: `text` has the format"""
    include: Annotated[list[str], Field(max_length=16)] | None = None
    """`message.output_text.logprobs` asks for log probabilities; others change nothing"""
    video: Any = None
    """what the first user's message shows, as in chat completions"""
    sampling: SamplingBody | None = None
    """which frames of all videos"""

    tools: Annotated[list[Any], Field(max_length=128)] | None = None
    """not offered: none, or any with `tool_choice` none"""
    tool_choice: Any = None
    """no tool is ever called"""
    background: Literal[False] | None = None
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

    def completion_format(self) -> Message | None:
        """As chat completions have it: the schema one level deeper."""
        given = self.text and self.text.format
        if not given or given.get("type") != "json_schema":
            return given or None
        return {"type": "json_schema", "json_schema": {name: given[name] for name in given if name != "type"}}


class DeletedResponse(ResponseBody):
    """The answer to a deletion."""

    id: str
    """of the response that is gone"""
    object: Literal["response"] = "response"
    """always response"""
    deleted: Literal[True] = True
    """always true"""
