"""What may be said with a question."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from btchat.client.objects import VideoUpload

Video: TypeAlias = str | os.PathLike[str] | VideoUpload
"""The id of an upload, an upload, or the path of a file, which is then uploaded: `Path("clip.mp4")`."""

SamplingOptions: TypeAlias = Mapping[str, Any]
"""num_frames or fps, max_frames, start, end, strategy, seed; also the `sampling` of a receipt."""

ModelNames: TypeAlias = list[str] | tuple[str, ...]


class FurtherVideo(TypedDict, total=False):
    """A further video of a message; without `sampling` it has the request's."""

    video: str
    sampling: SamplingOptions


class ChatMessage(TypedDict):
    """One message of a dialogue."""

    role: Literal["system", "user", "assistant"]
    content: str


class ShowingMessage(ChatMessage, total=False):
    """A message that shows videos beside the request's own."""

    videos: Sequence[FurtherVideo]


Dialogue: TypeAlias = str | Sequence[ShowingMessage]
"""One question, or messages, of which the last is the user's."""


class ChatOptions(TypedDict, total=False):
    """How to answer; what is left out is the model's own.

    `extra_body` holds fields of a newer server. `on_stage` is told the progress of a stream before its text.
    """

    sampling: SamplingOptions | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    max_tokens: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logprobs: bool | None
    top_logprobs: int | None
    extra_body: Mapping[str, Any]
    on_stage: Callable[[str], object]
