"""Every error in operation, with the code and parameter that a client is shown.

BtchatError
├── InvalidValueError (also ValueError)   a caller's bad value: 400
│   └── ContextLengthError                prompt and answer do not fit the context
├── UnknownNameError                      a model, video or backend that does not exist: 404
│   └── PixelsForgottenError              a video of which only tokens are left: 410
├── VideoError                            a file that cannot be used: 422
│   ├── UnsupportedMediaError             not a video container that we read: 415
│   ├── DecodeTimeoutError                the decoder did not finish in time
│   │   └── PartlyDecodedError            frames that it has are kept for a second try: 503
│   └── VideoLimitError                   too many pixels, frames or seconds: 413
├── CheckpointError                       weights that are missing or do not fit: refuse to start
├── TrainingError                         a run that cannot go on: diverged, or too many broken clips
└── EngineError                           the engine cannot take or finish the work: 503
    ├── QueueFullError
    │   └── DecodeQueueFullError          too many videos wait for a decode child
    ├── FeaturesMissingError              cached video tokens were evicted; encode again
    └── EngineDeadError
"""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SHOWN = 200  # characters of a wrong value


class BtchatError(Exception):
    """Base of all errors in operation; `code` and `param` travel to the client."""

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class InvalidValueError(BtchatError, ValueError):
    """A caller's bad value; the message holds the value and the allowed ones."""

    code = "invalid_value"


class ContextLengthError(InvalidValueError):
    """Prompt, video tokens and answer do not fit the model's context."""

    code = "context_length_exceeded"


class UnknownNameError(BtchatError):
    """A name of a model, video or backend that does not exist."""

    code = "not_found"


class PixelsForgottenError(UnknownNameError):
    """A video whose file was deleted, and whose tokens were kept: `kept` has their samplings, by file."""

    code = "pixels_forgotten"

    def __init__(self, message: str, kept: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(message)
        self.kept = kept


class VideoError(BtchatError):
    """A file that cannot be used as a video."""

    code = "undecodable_video"


class UnsupportedMediaError(VideoError):
    """Not a container or codec that this server reads."""

    code = "unsupported_media"


class DecodeTimeoutError(VideoError):
    """The decode child did not finish within its time limit."""

    code = "decode_timeout"


class PartlyDecodedError(DecodeTimeoutError):
    """The time is over; the frames of these source `indices` are kept for the same request once more."""

    def __init__(self, message: str, indices: tuple[int, ...]) -> None:
        super().__init__(message)
        self.indices = indices


class VideoLimitError(VideoError):
    """More pixels, frames or seconds than allowed."""

    code = "video_too_large"


class CheckpointError(BtchatError):
    """Weights that are missing, unexpected or of the wrong shape; one line naming file and tensor."""

    code = "bad_checkpoint"


class TrainingError(BtchatError):
    """A training run that cannot go on; the message says at which step, and what to change."""

    code = "training_failed"


class EngineError(BtchatError):
    """The engine cannot take or finish the work."""

    code = "engine_error"


class QueueFullError(EngineError):
    """No room in the waiting queue; try again later."""

    code = "overloaded"


class DecodeQueueFullError(QueueFullError):
    """Too many videos wait for a decode child, in all or of one owner; try again in `retry_seconds`."""

    def __init__(self, message: str, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class FeaturesMissingError(EngineError):
    """The video's cached tokens are no longer in the engine."""

    code = "features_missing"


class EngineDeadError(EngineError):
    """The engine process or thread has ended."""

    code = "engine_restarted"


def require(ok: bool, param: str, value: object, allowed: str) -> None:
    """Refuse a caller's value unless it is `ok`, with a message in the common form.

    Raises:
        InvalidValueError: the value is not ok.
    """
    if not ok:
        shown = repr(value)
        if len(shown) > _SHOWN:
            shown = f"{shown[:_SHOWN]}…"
        raise InvalidValueError(f"{param} is {shown}; allowed: {allowed}", param=param)


def too_long(least: int, max_context: int) -> ContextLengthError:
    """The refusal of texts that were not tokenised."""
    text = f"the messages have {least} tokens or more; the context holds {max_context}"
    return ContextLengthError(text, param="messages")


_OTHER = "choose another place"
_SENTENCES = {
    errno.ENOENT: "there is no such file or folder; check the path (the current folder is {here})",
    errno.EISDIR: "is a folder; give a file",
    errno.ENOTDIR: "a part of this path is a file, not a folder; check the path",
    errno.EEXIST: f"exists already; {_OTHER}",
    errno.ENOTEMPTY: f"is a folder that is not empty; empty it, or {_OTHER}",
    errno.EACCES: f"this user may not read or write it; change its permissions, or {_OTHER}",
    errno.EPERM: f"this user may not read or write it; change its permissions, or {_OTHER}",
    errno.EROFS: f"lies on a read-only file system; {_OTHER}",
    errno.ENOSPC: f"the disk is full; free some space, or {_OTHER}",
    errno.EDQUOT: f"this user's share of the disk is used up; free some space, or {_OTHER}",
}


def explain(error: Exception) -> str:
    """What is wrong with which file, and what to do; an error's own words where nothing is known."""
    if not isinstance(error, OSError):
        return str(error)
    path = error.filename2 or error.filename  # of two, the second is what was to be written
    if path is None or error.errno not in _SENTENCES:
        return error.strerror or str(error)
    return f"{path}: {_SENTENCES[error.errno].format(here=Path.cwd())}"
