"""Several models answer at once: their events in the order in which they come."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from bt_model.errors import BtchatError
from server.answers.flow import Speaker
from server.answers.question import AnswerEvent, Text
from server.problems import Problem, problem_of

log = logging.getLogger(__name__)

_EVENTS_AHEAD = 8  # of a client that reads slowly


@dataclass(frozen=True, slots=True)
class Broken:
    """An answer that ended in an error; the others go on."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class PanelEvent:
    """What answer number `index` says."""

    index: int
    event: AnswerEvent | Broken

    @property
    def is_last(self) -> bool:
        return not isinstance(self.event, Text)


async def merged(speakers: Sequence[Speaker]) -> AsyncGenerator[PanelEvent]:
    """Text* and one Finished or Broken of every answer; closing it ends all of them.

    Raises:
        Problem: no model has anything to say; the first error.
    """
    queue: asyncio.Queue[PanelEvent] = asyncio.Queue(_EVENTS_AHEAD)
    readers = [asyncio.create_task(_read(speaker, i, queue)) for i, speaker in enumerate(speakers)]
    broken: list[PanelEvent] = []  # held back until one model speaks: if none does, all is one error
    has_spoken = False
    num_open = len(speakers)
    try:
        while num_open:
            event = await queue.get()
            num_open -= event.is_last
            if isinstance(event.event, Broken) and not has_spoken:
                broken.append(event)
                continue
            has_spoken = True
            for held in (*broken, event):
                yield held
            broken.clear()
        for held in broken:
            assert isinstance(held.event, Broken)
            raise held.event.problem
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _read(speaker: Speaker, index: int, queue: asyncio.Queue[PanelEvent]) -> None:
    try:
        async for event in speaker.events:
            await queue.put(PanelEvent(index, event))
    except (BtchatError, HTTPException, TimeoutError) as error:
        await queue.put(PanelEvent(index, Broken(problem_of(error))))
    except Exception as error:  # one model's answer must not take its neighbours down
        log.exception("the answer of %s failed", speaker.answer.model)
        await queue.put(PanelEvent(index, Broken(problem_of(error))))
