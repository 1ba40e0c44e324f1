"""A question from admission to the last token of its answers: features, prompts and answers."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from bt_model.errors import FeaturesMissingError
from bt_model.types import Usage
from server.admission import Admission
from server.answers.inputs import Preparation
from server.answers.question import Answer, AnswerEvent, Finished, Question, Text
from server.engine.client import EngineClient
from server.engine.wire import Done
from server.features.flights import Encoded, VideoFeatures
from server.metrics import Metrics
from server.problems import problem_of

_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Speaker:
    """One model's answer and its events: Text*, then one Finished."""

    answer: Answer
    events: AsyncGenerator[AnswerEvent]


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
    async def answer(self, question: Question) -> AsyncGenerator[Sequence[Speaker]]:
        """Every model's answer to a question, in the order asked. Leaving ends the work, wherever it is.

        However many models are asked, it is one request that is let in, one decode of the video, and one pass
        through each frozen tower.

        Raises:
            BusyError: no room for one more.
        """
        answers = [Answer(question, model, self._request_seconds) for model in question.models]
        preparation = Preparation(self._engine, self._features, question, answers)
        async with AsyncExitStack() as stack:
            stack.enter_context(self._admission.enter(question.tenant))
            stack.push_async_callback(preparation.close)
            speakers = list[Speaker]()
            for answer in answers:
                events = await stack.enter_async_context(aclosing(self._counted(answer, preparation)))
                speakers.append(Speaker(answer, events))
            yield speakers

    async def _counted(self, answer: Answer, preparation: Preparation) -> AsyncGenerator[AnswerEvent]:
        is_finished = False
        try:
            async with aclosing(self._events(answer, preparation)) as events:
                async for event in events:
                    is_finished = isinstance(event, Finished)
                    yield event
        except (GeneratorExit, asyncio.CancelledError):
            if not is_finished:
                self._metrics.aborted.labels(answer.model).inc()
            raise
        except Exception as error:
            self._metrics.failed.labels(answer.model, problem_of(error).code).inc()
            raise

    async def _events(self, answer: Answer, preparation: Preparation) -> AsyncGenerator[AnswerEvent]:
        for attempt in range(_ATTEMPTS):
            async with asyncio.timeout_at(answer.deadline):
                encoded = await (preparation.again(answer) if attempt else preparation.encoded(answer))
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

    async def _ask(self, answer: Answer, encoded: Encoded) -> AsyncGenerator[AnswerEvent]:
        asked = answer.question
        seconds = answer.deadline - asyncio.get_running_loop().time()
        replies = self._engine.ask(answer.model, encoded.key, asked.turns, asked.options, seconds)
        async with replies as events:
            while True:
                async with asyncio.timeout_at(answer.deadline):
                    reply = await anext(events)
                if isinstance(reply, Done):
                    yield self._finish(answer, encoded, reply)
                    return
                self._observe_text(answer)
                yield Text(reply.text)

    def _observe_text(self, answer: Answer) -> None:
        now = monotonic()
        if answer.first_text is None:
            answer.first_text = now
            self._metrics.first_token.labels(answer.model).observe(now - answer.begin)
        else:
            self._metrics.between_tokens.labels(answer.model).observe(now - answer.last_text)
        answer.last_text = now

    def _finish(self, answer: Answer, encoded: Encoded, done: Done) -> Finished:
        usage = Usage(**done.usage)
        model = answer.model
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
