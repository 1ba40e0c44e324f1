"""One model's answer while it is made, what it says, and its receipt."""

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Any

from bt_model.types import GenerateOptions, ModelCard, Sampling, Turn, Usage
from server.engine.wire import Done
from server.features.flights import Encoded, Stage
from server.uploads.sources import VideoSource

DEFAULT_SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class Question:
    """A dialogue, perhaps about a video, how to answer it, and the models that are asked."""

    tenant: str
    models: tuple[str, ...]
    turns: tuple[Turn, ...]
    options: GenerateOptions
    video: VideoSource | None = None
    sampling: Sampling = DEFAULT_SAMPLING


@dataclass(frozen=True, slots=True)
class Text:
    """New text; whole code points."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer."""

    reason: str
    usage: Usage
    receipt: dict[str, Any]


AnswerEvent = Text | Finished


class Answer:
    """One answer. `stage` says what it waits for, `card` is None until then; times are monotonic seconds."""

    def __init__(self, question: Question, model: str, seconds: float) -> None:
        self.question = question
        self.model = model
        self.card: ModelCard | None = None
        self.begin = monotonic()
        self.deadline = asyncio.get_running_loop().time() + seconds
        self.stage: Stage = "lookup"
        self.first_text: float | None = None
        self.last_text = self.begin

    @property
    def fingerprint(self) -> str | None:
        return None if self.card is None else self.card.fingerprint

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage

    def receipt(self, encoded: Encoded, done: Done) -> dict[str, Any]:
        """What was done for this answer; durations in seconds."""
        video = self.question.video
        return {
            "video": video.name if video else None,
            **encoded.facts,
            "seconds": {
                "decode": encoded.decode_seconds,
                "encode": encoded.encode_seconds,
                "queue": done.seconds["queue"],
                "prefill": done.seconds["prefill"],
                "generate": done.seconds["decode"],
                "first_token": (self.first_text or self.last_text) - self.begin,
                "total": monotonic() - self.begin,
            },
            "cache": {"features": encoded.cache, "prompt_tokens": done.usage.get("cached", 0)},
            "model": self.model,
            "fingerprint": self.fingerprint,
        }
