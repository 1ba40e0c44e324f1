"""Bodies of our own routes but the chat's. Unknown fields, wrong types and NaN are refused."""

import re
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from bt_model.errors import require
from bt_model.types import (
    MAX_TOP_LOGPROBS,
    GenerateOptions,
    Sampling,
    Strategy,
    VideoFacts,
)
from server.bodies.rules import say_options, say_sampling
from server.uploads.rows import StoredVideo

MAX_MESSAGES = 512
MAX_MODELS = 8
MAX_CHARACTERS = 262_144
MAX_FIELDS = 100

T = TypeVar("T")
Ignored = object
"""A field that changes nothing here: whatever it holds is accepted."""
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


MaxTokens = Annotated[Whole | None, BeforeValidator(_unlimited)]
Text = Annotated[str, Field(max_length=MAX_CHARACTERS)]
VideoId = Annotated[str, Field(max_length=64, description="id of an upload, vid_ and 32 hexadecimal digits")]
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


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_floods(cls, value: object) -> object:
        """One error, and not one for each of a hundred thousand unknown fields, which would take seconds."""
        if isinstance(value, dict) and len(cast(dict[object, object], value)) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "allowed: up to {most} fields", {"most": MAX_FIELDS})
        return value


class SamplingBody(Body):
    """Sampling of the model's input frames; bounds are checked by `bt_model.types.Sampling`."""

    model_config = ConfigDict(json_schema_extra=say_sampling)

    num_frames: Whole | None = None
    fps: float | None = None
    max_frames: Whole | None = None
    start: float | None = None
    end: float | None = None
    strategy: Strategy = "uniform"
    seed: SamplingSeed = 0

    def value(self) -> Sampling:
        """Raises InvalidValueError for a value out of range."""
        return Sampling(**self.model_dump())


class VideoBody(Body):
    """A video, its sampling, and the model that encodes it."""

    video: VideoId
    sampling: SamplingBody = SamplingBody()
    model: ModelName = None


class TokensBody(VideoBody):
    """`format` overrides the Accept header."""

    format: Literal["safetensors", "json"] | None = None


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
    function_call: None = None
    tool_calls: Annotated[list[object], Field(max_length=0)] | None = None


class OptionsBody(Body):
    """How to sample the answer; bounds are checked by `bt_model.types.GenerateOptions`."""

    model_config = ConfigDict(json_schema_extra=say_options)

    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: Whole | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    ignore_eos: bool | None = None
    max_tokens: MaxTokens = None
    seed: Whole | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS), WHOLE] | None = None
    stop: str | FewErrors[str] | None = None

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
        )


class VideoObject(BaseModel):
    """One upload in a response."""

    id: str
    object: Literal["video"] = "video"
    bytes: int
    sha256: str
    filename: str
    created_at: int
    expires_at: int | None
    facts: VideoFacts

    @classmethod
    def of(cls, video: StoredVideo) -> Self:
        return cls(
            id=video.id,
            bytes=video.num_bytes,
            sha256=video.sha256,
            filename=video.filename,
            created_at=video.created_at,
            expires_at=video.expires_at,
            facts=video.facts,
        )


class VideoPage(BaseModel):
    """A page of uploads."""

    object: Literal["list"] = "list"
    data: list[VideoObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Deleted(BaseModel):
    """The response to a deletion."""

    id: str
    object: Literal["video"] = "video"
    deleted: Literal[True] = True


class FrameObject(BaseModel):
    """One of the model's input frames; `image` is a data URL of a JPEG."""

    index: int
    timestamp: float
    image: str


class FramesObject(BaseModel):
    """The frames of one video in order."""

    object: Literal["video.frames"] = "video.frames"
    video: str
    num_frames: int
    sampling: dict[str, Any]
    warnings: list[str]
    reader: str
    frames: list[FrameObject]
    facts: VideoFacts


class TokensObject(BaseModel):
    """Pooled tokens (K, D); `data` is base64 of the row-major little-endian array."""

    object: Literal["video.tokens"] = "video.tokens"
    video: str
    shape: list[int]
    dtype: str
    fingerprint: str
    pooling: str
    data: str
    receipt: dict[str, Any]
