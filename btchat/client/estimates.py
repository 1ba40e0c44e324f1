"""What a question would take, before anything is decoded."""

from typing import Any

from btchat.client.objects import ServerObject, UploadFacts
from btchat.client.receipts import SeenFrames


class DecodeNeed(ServerObject):
    """Billions of pixels that the frames need decoded, and the seconds that a decode may last."""

    gigapixels: float
    seconds_allowed: float


class ForeseenVideo(ServerObject):
    """One video; `cache` is hit or joined where nothing will be decoded, else miss."""

    video: str
    cache: str | None = None
    frames: SeenFrames
    sampling: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    decode: DecodeNeed | None = None
    facts: UploadFacts


class ForeseenTokens(ServerObject):
    """Tokens of the prompt, and what is left for an answer; `text` is None without a dialogue."""

    video: int
    text: int | None = None
    prompt: int | None = None
    max_tokens: int | None = None
    room: int
    context: int


class ForeseenProblem(ServerObject):
    """The error that the question would get."""

    message: str
    code: str
    param: str | None = None


class FittingChange(ServerObject):
    """Fields with which the question would fit."""

    sampling: dict[str, Any] | None = None
    max_tokens: int | None = None
    text_tokens: int | None = None
    videos: int | None = None


class VideoEstimate(ServerObject):
    """Whether a question `fits`; if not, the `problem`, and in `would_fit` each way out of it."""

    model: str
    fits: bool
    problem: ForeseenProblem | None = None
    would_fit: tuple[FittingChange, ...] = ()
    tokens: ForeseenTokens | None = None
    videos: tuple[ForeseenVideo, ...] = ()
