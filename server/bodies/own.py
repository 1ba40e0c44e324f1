"""Bodies of our own routes but the chat's. Unknown fields, wrong types and NaN are refused."""

import re
from typing import Annotated, Literal, TypeVar, cast

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from bt_model.errors import require
from bt_model.types import (
    MAX_TOP_LOGPROBS,
    OPTION_BOUNDS,
    GenerateOptions,
    Sampling,
    Strategy,
)
from server.bodies.described import Described
from server.bodies.formats import LogitBias, ResponseFormat, bias_of
from server.bodies.rules import VISIBLE, say_options, say_sampling
from server.bodies.video_part import VideoId

MAX_MESSAGES = 512
MAX_MODELS = 8
MAX_CHARACTERS = 262_144
MAX_FIELDS = 100

T = TypeVar("T")
Ignored = Annotated[object, Field(description="changes nothing here: whatever it holds is accepted")]
FewErrors = Annotated[list[T], Field(fail_fast=True)]
"""A list whose errors end with the first; a million of them would take seconds."""


def _as_whole(value: object) -> object:
    """JSON knows one kind of number: 3.0 is whole."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_as_whole)  # the last of a type's annotations: in front of bounds it hides them
Whole = Annotated[int, WHOLE]
# beyond this, clients and validators whose numbers are floats round
SamplingSeed = Annotated[int, Field(ge=0, le=2**53 - 1), WHOLE]


def _unlimited(value: object) -> object:
    """Some clients spell no limit as -1."""
    return None if value == -1 else value


_LEAST, _MOST = map(int, OPTION_BOUNDS["max_tokens"])
_SpelledTokens = Annotated[int, Field(ge=-1, le=_MOST, json_schema_extra={"not": {"const": 0}})]
MaxTokens = Annotated[
    Annotated[int, Field(ge=_LEAST, le=_MOST), WHOLE] | None,
    BeforeValidator(_unlimited, json_schema_input_type=_SpelledTokens | None),
]


def _exactly(value: bool) -> BeforeValidator:
    def checked(given: object) -> object:
        if given == value and given is not value:  # to Python 1 is true, and 0 is false
            raise PydanticKnownError("literal_error", {"expected": str(value)})
        return given

    return BeforeValidator(checked)


Always = Annotated[Literal[True], _exactly(True)]
Never = Annotated[Literal[False], _exactly(False)]
Text = Annotated[str, Field(max_length=MAX_CHARACTERS)]
Question = Annotated[Text, Field(json_schema_extra=VISIBLE)]
"""A text that stands for a whole dialogue."""
MAX_NAME_CHARACTERS = 255
FILENAME = re.compile(r"^[^\x00-\x1f\x7f]*$")
Filename = Annotated[
    str,
    Field(
        max_length=MAX_NAME_CHARACTERS, pattern=FILENAME.pattern, description="shown, never used as a path"
    ),
]
Models = Annotated[
    FewErrors[str], Field(json_schema_extra={"minItems": 1, "maxItems": MAX_MODELS, "uniqueItems": True})
]
ModelName = Annotated[str | None, Field(description="one of /v1/models; without it the first of them")]


class Body(Described):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_floods(cls, value: object) -> object:
        """One error, and not one for each of a hundred thousand unknown fields, which would take seconds."""
        if isinstance(value, dict) and len(cast(dict[object, object], value)) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "allowed: up to {most} fields", {"most": MAX_FIELDS})
        return value


class SamplingFields(Body):
    """Which frames of a video the model sees: what has no value where it is not given."""

    model_config = ConfigDict(json_schema_extra=say_sampling)

    num_frames: Whole | None = None
    """how many frames; without it and `fps` the model's own number"""
    fps: float | None = None
    """frames a second, in place of a number"""
    max_frames: Whole | None = None
    """the most frames that `fps` may give"""
    start: float | None = None
    """the begin of a window, in seconds"""
    end: float | None = None
    """the end of a window, in seconds"""


class SamplingBody(SamplingFields):
    """Which frames of a video the model sees."""

    strategy: Strategy | None = "uniform"
    """which frames are taken"""
    seed: SamplingSeed | None = 0
    """of the strategy `random`"""

    def value(self) -> Sampling:
        """Raises InvalidValueError for a value out of range."""
        return Sampling(**self.model_dump(exclude_none=True))


class VideoBody(Body):
    """A video, its sampling, and the model that encodes it."""

    video: VideoId
    sampling: SamplingBody | None = SamplingBody()
    """which frames"""
    model: ModelName = None

    def chosen(self) -> Sampling:
        """Raises InvalidValueError for a value out of range."""
        return Sampling() if self.sampling is None else self.sampling.value()


class TokensBody(VideoBody):
    """A video, its sampling, the model that encodes it, and the form of the tokens."""

    format: Literal["safetensors", "json"] | None = None
    """goes before the Accept header"""


class EchoedFields(Body):
    """What clients send back with a message of an earlier answer, or mark it with; it changes nothing."""

    id: Ignored = None
    name: Ignored = None
    uuid: Ignored = None
    refusal: Ignored = None
    annotations: Ignored = None
    reasoning: Ignored = None
    reasoning_content: Ignored = None
    cache_control: Ignored = None
    audio: None = None
    """not offered"""
    function_call: None = None
    """not offered"""
    tool_calls: Annotated[list[object], Field(max_length=0)] | None = None
    """not offered: an empty list"""


class OptionsBody(Body):
    """How the answer is written."""

    model_config = ConfigDict(json_schema_extra=say_options)

    stream: bool | None = False
    """whether the answer comes in events"""
    temperature: float | None = None
    """0 takes the likeliest token; without it the model's own"""
    top_p: float | None = None
    """only the likeliest tokens that have this probability together"""
    top_k: Whole | None = None
    """only so many of the likeliest tokens; 0 takes all"""
    min_p: float | None = None
    """only tokens with this part of the likeliest one's probability"""
    repetition_penalty: float | None = None
    """divides the logits of tokens that the answer has; 1 is none"""
    presence_penalty: float | None = None
    """is taken from the logits of tokens that the answer has"""
    frequency_penalty: float | None = None
    """the same for each time that a token stands there"""
    ignore_eos: bool | None = None
    """go on where the model would end"""
    max_tokens: MaxTokens = None
    """the most tokens of the answer; -1 or null: as many as there is room for"""
    seed: Whole | None = None
    """draws the same tokens again"""
    logprobs: bool | None = None
    """whether to tell the log probabilities of the answer's tokens"""
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS), WHOLE] | None = None
    """so many of the likeliest tokens at each place, with `logprobs`"""
    stop: str | FewErrors[str] | None = None
    """texts that end the answer, and are no part of it"""
    response_format: ResponseFormat | None = None
    """what the answer's text is: any text, a JSON object, or JSON by a schema"""
    min_tokens: Whole | None = None
    """the least tokens of the answer, before which the model does not end it"""
    logit_bias: LogitBias | None = None
    """what is added to the logits of tokens, by their ids"""

    def options(self) -> GenerateOptions:
        """Raises InvalidValueError for a value out of range, or `top_logprobs` without `logprobs`."""
        alone = self.top_logprobs and not self.logprobs
        require(not alone, "top_logprobs", self.top_logprobs, "0 where logprobs is not true")
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return GenerateOptions(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            ignore_eos=self.ignore_eos,
            seed=self.seed,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            stop=tuple(stop),
            min_tokens=self.min_tokens,
            logit_bias=bias_of(self.logit_bias),
            schema=self.response_format and self.response_format.schema_text(),
        )
