"""Reads answers for a client who may leave at any moment."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from time import monotonic
from typing import Any, Generic, Self, TypeVar

from starlette.requests import ClientDisconnect, Request

_T = TypeVar("_T")
Event = TypeVar("Event")


class EventReader(Generic[Event]):
    """Events of one response. Inside `async with`; leaving stops whatever is under way."""

    def __init__(self, events: AsyncGenerator[Event]) -> None:
        self._events = events
        self._next: asyncio.Task[Event] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._next is not None:
            await _stop(self._next)

    async def wait_for_first(self, request: Request, seconds: float) -> None:
        """Wait for the first event, but not longer than `seconds`: errors until then still have a status.

        Raises:
            ClientDisconnect: the client left.
        """
        self._next = asyncio.create_task(_next_of(self._events))
        until = monotonic() + seconds
        done = await while_connected(request, _finished_by(self._next, until))
        if done and self._next.exception() is not None:
            self._next.result()

    async def whole(self, request: Request) -> list[Event]:
        """All events.

        Raises:
            ClientDisconnect: the client left; nothing goes on.
        """
        return await while_connected(request, self._collect())

    async def __aiter__(self) -> AsyncGenerator[Event]:
        if self._next is not None:
            yield await self._next
        async for event in self._events:
            yield event

    async def _collect(self) -> list[Event]:
        return [event async for event in self._events]


async def _next_of(events: AsyncGenerator[Event]) -> Event:
    return await anext(events)


async def _finished_by(task: asyncio.Task[Any], until: float) -> bool:
    done, _ = await asyncio.wait({task}, timeout=max(until - monotonic(), 0))
    return bool(done)


async def while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`; a client who leaves first cancels it, which raises ClientDisconnect."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_until_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        await _stop(gone)
        await _stop(task)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
