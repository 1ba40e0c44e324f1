"""A question from admission to the last token of its answers."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic

from starlette.exceptions import HTTPException

from bt_model.errors import BtchatError, InvalidValueError, require
from bt_model.types import GenerateOptions, ModelCard
from server.admission import Admission
from server.answers.missing_video import warnings_without_video
from server.answers.question import Answer, AnswerEvent, Broken, Finished, Progress, Question, Text
from server.answers.replay import check_fingerprint, request_of
from server.engine.client import EngineClient
from server.engine.usage import Usage
from server.engine.wire import Done, Piece
from server.features.clips import EncodedClip, PreparedClips, TokenMaker, check_count, distinct, prepare_all
from server.features.receipt import receipt_of
from server.features.steps import WaitStep
from server.log.request import count, note
from server.metrics import Metrics
from server.problems import problem_of

Put = Callable[[AnswerEvent], Awaitable[None]]
"""Takes events over; may wait for a client who reads slowly."""

log = logging.getLogger(__name__)

_Inputs = asyncio.Task[PreparedClips]
_FORESEEN = (BtchatError, HTTPException, TimeoutError)


class ChatFlow:
    """Answers questions; holds no state of any one of them."""

    def __init__(
        self,
        engine: EngineClient,
        features: TokenMaker,
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
    async def answer(self, question: Question, put: Put) -> AsyncGenerator[Sequence[Progress]]:
        """Let every model answer, all at once. `put` gets Text* and one Finished or Broken of each of them.

        However many models are asked, it is one request, one decode of each video, and one pass through each
        frozen tower; choices count one by one, and the door has let in one. Leaving ends the work, wherever
        it is.

        Raises:
            BusyError: the server is full.
        """
        question = _seeded(question)
        deadline = asyncio.get_running_loop().time() + self._request_seconds
        numbers, said = range(len(question.models)), asyncio.Event()
        answers = [Answer(question, number, monotonic(), deadline, said) for number in numbers]
        progress = [Progress(model) for model in question.models]
        videos = dict.fromkeys(clip.source.name for clip in question.clips)
        note(model=",".join(dict.fromkeys(question.models)), video=",".join(videos) or None)
        self._admission.rates.count_request(question.tenant, question.num_choices - 1)
        with self._admission.enter(question.tenant, question.num_choices - 1):
            inputs = asyncio.create_task(self._inputs(question, progress))
            tasks = [
                asyncio.create_task(self._run(answer, of_answer, inputs, put))
                for answer, of_answer in zip(answers, progress, strict=True)
            ]
            try:
                yield progress
            finally:
                for task in (*tasks, inputs):
                    task.cancel()
                await asyncio.wait((*tasks, inputs))

    async def _inputs(self, question: Question, progress: Sequence[Progress]) -> PreparedClips:
        """What all answers have in common: their models opened, and the videos' tokens."""

        def report(step: WaitStep) -> None:
            for each in progress:
                each.step = step

        await asyncio.gather(*(self._open(each, question) for each in progress))
        cards = _cards(progress)
        clips = distinct(question.clips, cards) if cards else []
        for each in progress:
            try:
                if each.card is not None:
                    check_count(clips, each.card)
            except InvalidValueError as error:
                each.card, each.error = None, error
        cards = _cards(progress)
        return await prepare_all(self._features, clips if cards else [], cards, report)

    async def _open(self, progress: Progress, question: Question) -> None:
        if self._engine.known_card(progress.model) is None:
            progress.step = WaitStep("load")
        try:
            card = await self._engine.open(progress.model)
            check_fingerprint(card, question.fingerprint)
            card.check_length(question.turns)  # before a video is decoded, or the engine hears of it
            _check_biases(question.options, card)
            if (schema := question.options.schema) is not None:
                await self._engine.compile(progress.model, question.tenant, schema)
            progress.card = card
        except BtchatError as error:
            progress.error = error

    async def _run(self, answer: Answer, progress: Progress, inputs: _Inputs, put: Put) -> None:
        """Every event of one answer, and the one that ends it."""
        end: Finished | None = None
        try:
            async with asyncio.timeout_at(answer.deadline):
                clips = await asyncio.shield(inputs)
                if answer.choice:  # their prompt is then computed once, for the first
                    await answer.said.wait()
                end = await self._answer(answer, progress, clips, put)
            await put(end)
        except asyncio.CancelledError:
            if end is None:
                self._metrics.aborted(answer.model)
            raise
        except Exception as error:  # the answers of other models go on
            if not isinstance(error, _FORESEEN):
                log.exception("the answer of %s failed", answer.model)
            problem = problem_of(error)
            self._metrics.failed(answer.model, problem.code)
            await put(Broken(answer.index, problem))
        finally:
            answer.said.set()

    async def _answer(self, answer: Answer, progress: Progress, clips: PreparedClips, put: Put) -> Finished:
        if progress.error is not None:
            raise progress.error
        card = progress.card
        assert card is not None

        async def ask(encoded: Sequence[EncodedClip]) -> Finished:
            progress.step = WaitStep("answer")
            progress.seconds = {
                "decode": sum(each.video.decode_seconds for each in encoded),
                "encode": sum(each.video.encode_seconds for each in encoded),
            }
            return await self._ask(answer, card, encoded, put)

        def report(step: WaitStep) -> None:
            progress.step = step

        return await clips.use(card, ask, report)

    async def _ask(
        self, answer: Answer, card: ModelCard, encoded: Sequence[EncodedClip], put: Put
    ) -> Finished:
        """Let the engine answer; tokens that were evicted meanwhile are missed before anything is said."""
        asked = answer.question
        seconds = answer.deadline - asyncio.get_running_loop().time()
        first: float | None = None
        last = answer.begin
        videos = [(each.video.key, each.clip.place) for each in encoded]
        call = self._engine.ask(answer.model, asked.tenant, videos, asked.turns, answer.options, seconds)
        spent = 0
        try:
            with call as inbox:
                while isinstance(reply := await inbox.get(), Piece):
                    now = monotonic()
                    self._metrics.wrote(answer.model, now - last, is_first=first is None)
                    first, last = first or now, now
                    answer.said.set()
                    spent += 1  # of an answer that is left, the engine does not say how many tokens it took
                    so_far = Usage(reply.num_prompt, reply.num_new)
                    await put(Text(answer.index, reply.text, reply.logprobs, so_far))
            assert isinstance(reply, Done)
            usage = Usage(**reply.usage)
            spent = usage.completion if answer.choice else usage.total  # the prompt is computed once
        finally:
            self._admission.rates.spend_tokens(asked.tenant, spent)
        return self._finish(answer, card, encoded, reply, (first or answer.begin) - answer.begin)

    def _finish(
        self,
        answer: Answer,
        card: ModelCard,
        encoded: Sequence[EncodedClip],
        done: Done,
        first_seconds: float,
    ) -> Finished:
        usage, total = Usage(**done.usage), monotonic() - answer.begin
        self._metrics.answered(answer.model, done.reason, usage, done.seconds, total)
        count(answers=1, prompt_tokens=usage.prompt, completion_tokens=usage.completion)
        note(first_token_seconds=first_seconds)
        seconds = {
            "queue": done.seconds["queue"],
            "prefill": done.seconds["prefill"],
            "generate": done.seconds["decode"],
            "first_token": first_seconds,
            "total": total,
        }
        videos = [(each.clip.source.name, each.video) for each in encoded]
        receipt = receipt_of(videos, card, seconds=seconds, cache={"prompt_tokens": usage.cached})
        receipt["request"] = request_of(card, answer.question.turns, encoded, answer.options)
        warnings = () if videos else warnings_without_video(answer.question.turns)
        return Finished(answer.index, done.reason, usage, receipt, warnings)


def _seeded(question: Question) -> Question:
    """With a seed, that its receipt tells, where it has none: of 53 bits, as clients' numbers are floats."""
    if question.options.seed is not None:
        return question
    seed = int.from_bytes(secrets.token_bytes(8)) >> 11
    return replace(question, options=replace(question.options, seed=seed))


def _check_biases(options: GenerateOptions, card: ModelCard) -> None:
    """Raises InvalidValueError: a bias of a token that the model does not have."""
    if (size := card.vocab_size) is not None:
        strangers = [number for number, _ in options.logit_bias if number >= size]
        require(not strangers, "logit_bias", strangers[:1], f"token ids 0 to {size - 1}")


def _cards(progress: Sequence[Progress]) -> list[ModelCard]:
    return [each.card for each in progress if each.card is not None]
