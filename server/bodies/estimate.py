"""The bodies of POST /v1/video/estimate."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from server.bodies.chat import ChatBody, Messages
from server.bodies.described import ResponseBody
from server.bodies.dialogue import Conversation, conversation_of
from server.bodies.facts import FactsObject
from server.bodies.media import Videos
from server.bodies.own import Body, MaxTokens, ModelName, SamplingBody, Text
from server.bodies.receipts import ReceiptSampling
from server.bodies.rules import say_estimate

_ANY_QUESTION = "?"


class EstimateBody(Body):
    """Videos as a model would see them; with a dialogue or a question, its text counts, too."""

    model_config = ConfigDict(json_schema_extra=say_estimate)

    video: Annotated[Videos, Field(description="uploads, each with its own sampling if it has one")]
    sampling: SamplingBody | None = None
    """which frames the model would see"""
    model: ModelName = None
    messages: Annotated[Messages | None, Field(description="the dialogue, as on /v1/video/chat")] = None
    question: Annotated[Text | None, Field(description="in place of messages")] = None
    max_tokens: Annotated[MaxTokens, Field(description="the most tokens of the answer")] = None

    @property
    def is_asked(self) -> bool:
        """Whether the dialogue is known."""
        return self.messages is not None or self.question is not None

    def conversation(self) -> Conversation:
        """What `ChatBody` makes of it, about any question if there is none.

        Raises:
            InvalidValueError: as `ChatBody.said` and `conversation_of`.
        """
        asked = ChatBody.model_construct(
            video=self.video,
            sampling=self.sampling,
            messages=self.messages,
            question=self.question if self.is_asked else _ANY_QUESTION,
        )
        return conversation_of(asked.said())


class EstimatedFrames(ResponseBody):
    """The frames that the model would see."""

    count: int
    """how many there are"""
    indices: list[int]
    """their numbers in the whole file, from 0"""
    timestamps: list[float]
    """when each is shown, in seconds"""


class EstimatedDecode(ResponseBody):
    """What a decode of these frames takes."""

    gigapixels: float
    """billions of pixels that are decoded for them"""
    seconds_allowed: float
    """how long it may last"""


class EstimatedVideo(ResponseBody):
    """One video."""

    video: str
    """its id"""
    cache: Literal["hit", "joined", "miss"]
    """whether its tokens are there, or are being made; then nothing is decoded"""
    frames: EstimatedFrames
    """the model's input frames"""
    sampling: ReceiptSampling
    """which frames are taken, and how"""
    warnings: list[str]
    """what the file lacks, and how the sampling is rounded"""
    decode: EstimatedDecode
    """what a decode takes"""
    facts: FactsObject
    """what the container says"""


class EstimatedTokens(ResponseBody):
    """Tokens of the prompt."""

    video: int
    """those of all videos"""
    text: int | None
    """those of the dialogue in the model's format; null where none was sent"""
    prompt: int | None
    """all; null without a dialogue"""
    max_tokens: int | None
    """the most tokens of an answer that were asked for"""
    room: int
    """what is left for an answer"""
    context: int
    """how many prompt and answer may have together"""


class EstimateProblem(ResponseBody):
    """The error that the question would get."""

    message: str
    """what is wrong, and what is allowed"""
    code: str
    """the same for programs"""
    param: str | None
    """path of the field"""


class WouldFit(ResponseBody):
    """Fields of the request with which it would fit."""

    sampling: dict[str, Any] | None = None
    """fewer frames, or a shorter window: fields that replace those of the request"""
    max_tokens: int | None = None
    """the most that there is room for"""
    text_tokens: int | None = None
    """the most that the dialogue may have"""
    videos: int | None = None
    """the most that the dialogue may show"""


class EstimateObject(ResponseBody):
    """What a question would take, and whether it fits."""

    object: Literal["video.estimate"] = "video.estimate"
    """always video.estimate"""
    model: str
    """the model's name"""
    fits: bool
    """whether the question would be let through"""
    problem: EstimateProblem | None
    """the error that it would get"""
    would_fit: list[WouldFit]
    """each of them is a way out"""
    tokens: EstimatedTokens | None
    """of the prompt; null where the text is too long to be counted"""
    videos: list[EstimatedVideo]
    """the videos whose frames are known"""
