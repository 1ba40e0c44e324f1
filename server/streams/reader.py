"""Reads answers for a client that may disconnect at any time."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from starlette.requests import ClientDisconnect, Request

from server.answers.question import AnswerEvent, Broken, Text

_T = TypeVar("_T")

_EVENTS_AHEAD = 8  # buffered for a client that reads slowly


class EventReader:
    """Events of all answers to one question, in the order in which they come.

    Answers that broke are held back until another says something: if none does, the request is one problem.
    """

    def __init__(self, num_answers: int) -> None:
        self._num_open = num_answers
        self._has_spoken = False
        self._held: list[Broken] = []
        self._ready: deque[AnswerEvent] = deque()
        self._queue: asyncio.Queue[AnswerEvent] = asyncio.Queue(_EVENTS_AHEAD)
        self.put = self._queue.put

    async def wait_for_first(self, request: Request, seconds: float) -> None:
        """Wait for the first event, but not longer than `seconds`: problems until then still have a status.

        Raises:
            ClientDisconnect: the client left.
            Problem: no model has anything to say; the first one's.
        """

        async def fill() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fill(), seconds)

        await while_connected(request, fill())

    async def is_ready(self, seconds: float) -> bool:
        """Whether within so long there is an event, or none will come any more. Raises Problem as `whole`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._fill()
            return True
        return False

    async def whole(self, request: Request) -> list[AnswerEvent]:
        """All events. Raises as `wait_for_first`; after a client who left nothing goes on."""

        async def collect() -> list[AnswerEvent]:
            return [event async for event in self]

        return await while_connected(request, collect())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnswerEvent:
        await self._fill()
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()

    async def _fill(self) -> None:
        """Have an event ready, unless there are no more."""
        while self._num_open and not self._ready:
            event = await self._queue.get()
            self._num_open -= not isinstance(event, Text)
            if isinstance(event, Broken) and not self._has_spoken:
                self._held.append(event)
                continue
            self._has_spoken = True
            self._ready += [*self._held, event]
            self._held.clear()
        if self._held:
            raise self._held[0].problem


async def while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`; if the client disconnects first, it is cancelled and raises ClientDisconnect."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_until_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
