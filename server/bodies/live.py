"""Messages of a live session, in the form of vLLM-Omni's streaming video input, and what is sent back."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from bt_model.errors import require
from bt_model.types import GenerateOptions
from server.bodies.own import WHOLE, Body, FewErrors, Ignored, ModelName, OptionsBody, Text
from server.bodies.refusals import not_offered, of_validation
from server.problems import Problem

MAX_KEPT_FRAMES = 256
MAX_ASKED_FRAMES = 128
_USUAL_KEPT_FRAMES = 50
_ALIASES = {
    "num_sample_frames": "num_frames",
    "evs_enabled": "enable_frame_filter",
    "evs_threshold": "frame_filter_threshold",
}
_Modalities = FewErrors[Literal["text", "audio"]]
_MILLISECONDS = 1000
_TYPES = "session.config, video.frame, audio.chunk, video.query, video.done"


def _first(value: object) -> object:
    """Of a list for each stage of a model, ours has one."""
    return cast(list[object], value)[:1] if isinstance(value, list) else value


class SessionConfig(OptionsBody):
    """The first message: the model, the frames that are kept and shown to it, and how answers are written."""

    type: Literal["session.config"]
    """always session.config"""
    model: ModelName = None
    modalities: Annotated[_Modalities, Field(min_length=1, max_length=2)] | None = None
    """text, as without it; audio beside it is accepted and not sent"""
    num_frames: Annotated[int, Field(ge=1, le=MAX_ASKED_FRAMES), WHOLE] | None = None
    """how many of the kept frames a question is about, evenly chosen; without it the model's own number"""
    max_frames: Annotated[int, Field(ge=1, le=MAX_KEPT_FRAMES), WHOLE] | None = None
    """how many frames are kept, 50 without it; then the oldest leaves"""
    system_prompt: Text | None = None
    """stands before every question"""
    sampling_params_list: Annotated[FewErrors[OptionsBody], BeforeValidator(_first)] | None = None
    """options of answers; the first of the list counts, above those of this message"""
    frame_acks: bool | None = False
    """whether to tell what becomes of every frame; a client that waits for it loses none"""
    use_audio_in_video: Ignored = None
    speaker: Ignored = None
    enable_frame_filter: Ignored = None
    frame_filter_threshold: Ignored = None

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, value: object) -> object:
        """Names that clients used before."""
        if not isinstance(value, dict):
            return value
        return {_ALIASES.get(name, name): each for name, each in cast(dict[str, object], value).items()}

    @property
    def num_kept(self) -> int:
        return self.max_frames or _USUAL_KEPT_FRAMES

    def chosen_options(self) -> GenerateOptions:
        """Raises InvalidValueError: a value out of range, or what no text answer has."""
        if self.modalities is not None and "text" not in self.modalities:
            raise not_offered("modalities")
        require(not self.logprobs, "logprobs", self.logprobs, "false: a live session sends text alone")
        own = self.options()
        return self.sampling_params_list[0].options().or_else(own) if self.sampling_params_list else own


class VideoFrame(Body):
    """A picture; the server says when it came, where it does not say so itself."""

    type: Literal["video.frame"]
    """always video.frame"""
    data: Annotated[str, Field(min_length=1)]
    """JPEG, PNG or WebP in base64, or as a data URL"""
    timestamp: Annotated[float, Field(ge=0)] | None = None
    """seconds since the beginning"""
    pts_ms: Annotated[float, Field(ge=0)] | None = None
    """the same in milliseconds"""
    frame_id: Ignored = None

    @property
    def seconds(self) -> float | None:
        return self.pts_ms / _MILLISECONDS if self.pts_ms is not None else self.timestamp


class AudioChunk(Body):
    """Sound, which no model hears."""

    type: Literal["audio.chunk"]
    """always audio.chunk"""
    data: Ignored = None


class VideoQuery(Body):
    """A question about the frames that came before it."""

    type: Literal["video.query"]
    """always video.query"""
    text: Text
    """the question"""


class VideoDone(Body):
    """The end of the session, once its questions are answered."""

    type: Literal["video.done"]
    """always video.done"""


LiveMessage = SessionConfig | VideoFrame | AudioChunk | VideoQuery | VideoDone
_MESSAGES: TypeAdapter[LiveMessage] = TypeAdapter(Annotated[LiveMessage, Field(discriminator="type")])


def message_of(text: str) -> LiveMessage:
    """A client's message.

    Raises:
        Problem: it is none; the first reason why.
    """
    try:
        return _MESSAGES.validate_json(text)
    except ValidationError as error:
        errors: Sequence[Any] = error.errors(include_url=False)
        if errors[0]["type"].startswith("union_tag"):
            given = errors[0].get("ctx", {}).get("tag", "not there")[:40]
            raise Problem(
                400, f"type is {given}; allowed: {_TYPES}", code="invalid_value", param="type"
            ) from error
        raise of_validation([{**each, "loc": ("body", *each["loc"][1:])} for each in errors]) from error


def error_message(problem: Problem, query: int | None = None) -> dict[str, Any]:
    """What went wrong; `query` is the number of the question that it belongs to."""
    error = problem.body()["error"]
    said = {"type": "error", "message": error["message"], "code": error["code"], "param": error["param"]}
    return said if query is None else {**said, "query": query}
