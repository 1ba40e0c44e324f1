"""One question from admission to its last token: features, prompt and answer, and the receipt of all that."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from bt_model.errors import FeaturesMissingError
from bt_model.types import GenerateOptions, ModelCard, Sampling, Turn, Usage
from server.engine.client import EngineClient
from server.engine.queue import Admission
from server.engine.wire import Done
from server.metrics import Metrics
from server.problems import problem_of
from server.video_features import Encoded, Stage, VideoFeatures, VideoSource

DEFAULT_SAMPLING = Sampling()
_TEXT_ONLY = Encoded(b"", {}, None)
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Question:
    """A dialogue, perhaps about a video, and how to answer it."""

    tenant: str
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
    """One answer while it is made. `stage` says what it waits for; times are monotonic seconds."""

    def __init__(self, question: Question, card: ModelCard, seconds: float) -> None:
        self.question = question
        self.card = card
        self.begin = monotonic()
        self.deadline = asyncio.get_running_loop().time() + seconds
        self.stage: Stage = "lookup"
        self.first_text: float | None = None
        self.last_text = self.begin

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
            "model": self.card.id,
            "fingerprint": self.card.fingerprint,
        }


class ChatFlow:
    """Answers questions; holds no state of any one of them."""

    def __init__(
        self,
        engine: EngineClient,
        features: VideoFeatures,
        admission: Admission,
        metrics: Metrics,
        request_seconds: float,
    ) -> None:
        self._engine = engine
        self._features = features
        self._admission = admission
        self._metrics = metrics
        self._request_seconds = request_seconds

    @asynccontextmanager
    async def answer(self, question: Question) -> AsyncGenerator[tuple[Answer, AsyncGenerator[AnswerEvent]]]:
        """An answer and its events: Text*, then one Finished. Leaving ends the work, wherever it is.

        Raises:
            BusyError: no room for one more.
        """
        answer = Answer(question, self._engine.card, self._request_seconds)
        with self._admission.enter(question.tenant):
            async with aclosing(self._counted(answer)) as events:
                yield answer, events

    async def _counted(self, answer: Answer) -> AsyncGenerator[AnswerEvent]:
        model = answer.card.id
        is_finished = False
        try:
            async with aclosing(self._events(answer)) as events:
                async for event in events:
                    is_finished = isinstance(event, Finished)
                    yield event
        except (GeneratorExit, asyncio.CancelledError):
            if not is_finished:
                self._metrics.aborted.labels(model).inc()
            raise
        except Exception as error:
            self._metrics.failed.labels(model, problem_of(error).code).inc()
            raise

    async def _events(self, answer: Answer) -> AsyncGenerator[AnswerEvent]:
        for attempt in range(_ATTEMPTS):
            encoded = await self._encoded(answer)
            answer.set_stage("answer")
            try:
                async with aclosing(self._ask(answer, encoded)) as events:
                    async for event in events:
                        yield event
            except FeaturesMissingError:  # evicted since; nothing was said yet
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    async def _encoded(self, answer: Answer) -> Encoded:
        question = answer.question
        if question.video is None:
            return _TEXT_ONLY
        async with asyncio.timeout_at(answer.deadline):
            return await self._features.prepare(question.video, question.sampling, answer.set_stage)

    async def _ask(self, answer: Answer, encoded: Encoded) -> AsyncGenerator[AnswerEvent]:
        question = answer.question
        seconds = answer.deadline - asyncio.get_running_loop().time()
        async with self._engine.ask(encoded.key, question.turns, question.options, seconds) as replies:
            while True:
                async with asyncio.timeout_at(answer.deadline):
                    reply = await anext(replies)
                if isinstance(reply, Done):
                    yield self._finish(answer, encoded, reply)
                    return
                self._observe_text(answer)
                yield Text(reply.text)

    def _observe_text(self, answer: Answer) -> None:
        now = monotonic()
        model = answer.card.id
        if answer.first_text is None:
            answer.first_text = now
            self._metrics.first_token.labels(model).observe(now - answer.begin)
        else:
            self._metrics.between_tokens.labels(model).observe(now - answer.last_text)
        answer.last_text = now

    def _finish(self, answer: Answer, encoded: Encoded, done: Done) -> Finished:
        usage = Usage(**done.usage)
        model = answer.card.id
        metrics = self._metrics
        metrics.succeeded.labels(model, done.reason).inc()
        metrics.prompt_tokens.labels(model).inc(usage.prompt)
        metrics.cached_tokens.labels(model).inc(usage.cached)
        metrics.generation_tokens.labels(model).inc(usage.completion)
        metrics.request_prompt_tokens.labels(model).observe(usage.prompt)
        metrics.request_new_tokens.labels(model).observe(usage.completion)
        metrics.total_seconds.labels(model).observe(monotonic() - answer.begin)
        for stage, histogram in metrics.stage_seconds.items():
            histogram.labels(model).observe(done.seconds[stage])
        return Finished(done.reason, usage, answer.receipt(encoded, done))


def as_receipt(card: ModelCard, encoded: Encoded, name: str) -> dict[str, Any]:
    """The receipt of tokens that nobody asked a question about."""
    return {
        "video": name,
        **encoded.facts,
        "seconds": {"decode": encoded.decode_seconds, "encode": encoded.encode_seconds},
        "cache": {"features": encoded.cache},
        "model": card.id,
        "fingerprint": card.fingerprint,
    }
