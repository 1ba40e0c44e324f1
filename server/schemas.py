"""What crosses the wire on our own routes. Unknown fields, wrong types and NaN are refused."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from bt_model.types import GenerateOptions, ModelCard, Role, Sampling, Turn, VideoFacts
from server.uploads.catalog import StoredVideo

MAX_MESSAGES = 512
MAX_CHARACTERS = 262_144

Text = Annotated[str, Field(max_length=MAX_CHARACTERS)]
SamplingSeed = Annotated[int, Field(ge=0, lt=2**63)]
VideoId = Annotated[str, Field(max_length=64, description="id of an upload, vid_ and 32 hexadecimal digits")]


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class SamplingBody(Body):
    """Which frames the model sees; bounds are checked by `bt_model.types.Sampling`."""

    num_frames: int | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    strategy: Literal["uniform", "middle", "retrieval", "random"] = "uniform"
    seed: SamplingSeed = 0

    def value(self) -> Sampling:
        """Raises InvalidValueError for a value out of range."""
        return Sampling(**self.model_dump())


class VideoBody(Body):
    """A video and how to sample it."""

    video: VideoId
    sampling: SamplingBody = SamplingBody()


class TokensBody(VideoBody):
    """`format` wins over the Accept header."""

    format: Literal["safetensors", "json"] | None = None


class MessageBody(Body):
    """One message of a dialogue."""

    role: Role
    content: Text

    def turn(self) -> Turn:
        return Turn(self.role, self.content)


class OptionsBody(Body):
    """How to sample the answer; bounds are checked by `bt_model.types.GenerateOptions`."""

    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None

    def options(self) -> GenerateOptions:
        """Raises InvalidValueError for a value out of range."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return GenerateOptions(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=tuple(stop),
        )


class ChatBody(OptionsBody):
    """A dialogue about one video."""

    video: VideoId
    sampling: SamplingBody = SamplingBody()
    model: str | None = None
    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=MAX_MESSAGES)]


class VideoObject(BaseModel):
    """One upload as it is shown."""

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
    """What is left of a deleted upload."""

    id: str
    object: Literal["video"] = "video"
    deleted: Literal[True] = True


class FrameObject(BaseModel):
    """One frame as the model sees it; `image` is a data URL of a JPEG."""

    index: int
    timestamp: float
    image: str


class FramesObject(BaseModel):
    """The frames of one video in order."""

    object: Literal["video.frames"] = "video.frames"
    video: str
    num_frames: int
    sampling: dict[str, Any]
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


class ModelObject(BaseModel):
    """One model that answers."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "btchat"
    max_model_len: int
    backend: str
    default_frames: int
    max_frames: int
    num_video_tokens: int
    notice: str

    @classmethod
    def of(cls, card: ModelCard, created: int) -> Self:
        return cls(
            id=card.id,
            created=created,
            max_model_len=card.max_context,
            backend=card.backend,
            default_frames=card.default_frames,
            max_frames=card.max_frames,
            num_video_tokens=card.num_video_tokens,
            notice=card.notice,
        )


class ModelPage(BaseModel):
    """All models that answer."""

    object: Literal["list"] = "list"
    data: list[ModelObject]
