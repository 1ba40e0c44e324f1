"""What /v1/responses answers: OpenAI's response, whole and in events, with our receipt."""

from typing import Any, Literal

from server.bodies.completions import AnswerNote, ChosenToken
from server.bodies.described import ResponseBody
from server.bodies.errors import ErrorDetail
from server.bodies.receipts import Receipt

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(ResponseBody):
    """The text of an answer."""

    type: Literal["output_text"]
    """always output_text"""
    text: str
    """what the model said"""
    annotations: list[Any]
    """always empty"""
    logprobs: list[ChosenToken]
    """one for each token, where they were asked for"""


class OutputMessage(ResponseBody):
    """The one item of a response."""

    id: str
    """what `item_reference` of a later request names"""
    type: Literal["message"]
    """always message"""
    role: Literal["assistant"]
    """always assistant"""
    status: Literal["in_progress", "completed", "incomplete"]
    """whether it is whole"""
    content: list[OutputText]
    """its one text"""


class InputDetails(ResponseBody):
    """Parts of the prompt."""

    cached_tokens: int
    """tokens that were not computed again"""
    cache_write_tokens: int
    """always 0: nothing is charged for"""
    video_tokens: int
    """tokens that came from videos"""


class OutputDetails(ResponseBody):
    """Parts of the answer."""

    reasoning_tokens: int
    """always 0"""


class ResponseUsage(ResponseBody):
    """What a response took."""

    input_tokens: int
    """tokens of the prompt, those of videos included"""
    input_tokens_details: InputDetails
    """parts of the prompt"""
    output_tokens: int
    """tokens of the answer"""
    output_tokens_details: OutputDetails
    """parts of the answer"""
    total_tokens: int
    """both together"""


class Incomplete(ResponseBody):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"]
    """it was as long as it might be"""


class ResponseText(ResponseBody):
    """How the text was asked for."""

    format: dict[str, Any]
    """its format, as it was sent"""


class ResponseObject(ResponseBody):
    """A response."""

    id: str
    """what `previous_response_id` of a later request names"""
    object: Literal["response"]
    """always response"""
    created_at: int
    """seconds since 1970"""
    status: Status
    """whether it is whole"""
    error: ErrorDetail | None
    """why it failed"""
    incomplete_details: Incomplete | None
    """why it is not whole"""
    instructions: str | None
    """as they were sent"""
    max_output_tokens: int | None
    """as it was sent"""
    metadata: dict[str, str]
    """as it was sent"""
    model: str
    """who answered"""
    output: list[OutputMessage]
    """the answer"""
    parallel_tool_calls: bool
    """always false"""
    previous_response_id: str | None
    """what it goes on from"""
    store: bool
    """whether it is kept"""
    temperature: float | None
    """as it was sent"""
    text: ResponseText
    """how the text was asked for"""
    tool_choice: Literal["none"]
    """always none"""
    tools: list[Any]
    """always empty"""
    top_p: float | None
    """as it was sent"""
    truncation: Literal["disabled"]
    """always disabled: what does not fit is refused"""
    usage: ResponseUsage | None
    """what it took, once it has ended"""
    receipt: Receipt | None = None
    """what the answer was made of, once it has ended"""
    warnings: list[AnswerNote] | None = None
    """left out where there are none"""


class _Numbered(ResponseBody):
    sequence_number: int
    """its number in the stream, from 0"""


class _EventInItem(_Numbered):
    output_index: int
    """always 0"""


class _EventInPart(_EventInItem):
    item_id: str
    """of the message"""
    content_index: int
    """always 0"""


class ResponseEvent(_Numbered):
    """The response as it is now. The last event is the one that it is completed, incomplete or failed."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    """the name of the event"""
    response: ResponseObject
    """the response"""


class ItemEvent(_EventInItem):
    """The message begins or is whole."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    """the name of the event"""
    item: OutputMessage
    """the message as it is now"""


class PartEvent(_EventInPart):
    """The message's text begins or is whole."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    """the name of the event"""
    part: OutputText
    """the text as it is now"""


class TextDeltaEvent(_EventInPart):
    """More text."""

    type: Literal["response.output_text.delta"]
    """the name of the event"""
    delta: str
    """what follows the text that came before"""
    logprobs: list[ChosenToken]
    """of its tokens, where they were asked for"""


class TextDoneEvent(_EventInPart):
    """The whole text."""

    type: Literal["response.output_text.done"]
    """the name of the event"""
    text: str
    """what the model said"""
    logprobs: list[ChosenToken]
    """of all tokens, where they were asked for"""


AnyEvent = ResponseEvent | ItemEvent | PartEvent | TextDeltaEvent | TextDoneEvent
