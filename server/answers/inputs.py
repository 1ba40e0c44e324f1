"""What all answers to one question have in common: their models opened and the video encoded, once."""

import asyncio
import contextlib
from collections.abc import Sequence

from bt_model.errors import BtchatError
from bt_model.types import ModelCard
from server.answers.question import Answer, Question
from server.engine.client import EngineClient
from server.features.flights import Encoded, Outcome, Stage, VideoFeatures, only
from server.features.keys import settled

_TEXT_ONLY = Encoded(b"", {}, None)


class Preparation:
    """Made when the first answer needs it; closing ends whatever of it is under way."""

    def __init__(
        self, engine: EngineClient, features: VideoFeatures, question: Question, answers: Sequence[Answer]
    ) -> None:
        self._engine = engine
        self._features = features
        self._sampling = question.sampling
        self._video = question.video
        self._answers = answers
        self._task: asyncio.Task[dict[str, Outcome]] | None = None

    async def encoded(self, answer: Answer) -> Encoded:
        """The video's tokens for one model, whose card is known from here on.

        Raises:
            BtchatError: why this model, or the video, cannot be had.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._make())
        return only((await asyncio.shield(self._task))[answer.model])

    async def again(self, answer: Answer) -> Encoded:
        """Once more for one model, whose tokens were evicted. Raises as `encoded`."""
        if self._video is None or answer.card is None:
            return await self.encoded(answer)
        outcomes = await self._features.prepare(self._video, self._sampling, [answer.card], answer.set_stage)
        return only(outcomes[answer.model])

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task

    async def _make(self) -> dict[str, Outcome]:
        opened = await asyncio.gather(*(self._open(answer) for answer in self._answers))
        cards = [each for each in opened if isinstance(each, ModelCard)]
        outcomes: dict[str, Outcome] = {
            answer.model: each if isinstance(each, BtchatError) else _TEXT_ONLY
            for answer, each in zip(self._answers, opened, strict=True)
        }
        if self._video is not None and cards:
            self._sampling = settled(self._sampling, cards[0])
            outcomes |= await self._features.prepare(self._video, self._sampling, cards, self._report)
        return outcomes

    async def _open(self, answer: Answer) -> ModelCard | BtchatError:
        if self._engine.known_card(answer.model) is None:
            answer.set_stage("load")
        try:
            answer.card = await self._engine.open(answer.model)
        except BtchatError as error:
            return error
        return answer.card

    def _report(self, stage: Stage) -> None:
        for answer in self._answers:
            answer.set_stage(stage)
