"""Heavy work beside the event loop."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from queue import PriorityQueue
from typing import Any, TypeVar

_T = TypeVar("_T")
_WEIGHT_A_SECOND = 1e6  # so that a heavy call is not overtaken for ever


class WorkThread:
    """Runs functions for the event loop, one after the other, on a thread that ends with the process.

    Of those that wait, the lightest is next; a second of waiting makes up for a weight of a million. The
    `niceness` is the system's: beside others that compute, five has a third of their share.
    """

    def __init__(self, name: str, niceness: int = 0) -> None:
        self.name = name
        self._calls: PriorityQueue[tuple[float, int, Callable[[], Any], asyncio.Future[Any]]] = (
            PriorityQueue()
        )
        self._numbers = count()  # of calls: equals keep their order
        self._since: float | None = None
        self._niceness = niceness
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def busy_seconds(self) -> float:
        """How long the function that runs now has run."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    async def run(self, function: Callable[..., _T], *arguments: Any, weight: int = 0) -> _T:
        """The function's result, or what it raises; one that nobody waits for any more is not begun."""
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._calls.put(
            (
                time.monotonic() * _WEIGHT_A_SECOND + weight,
                next(self._numbers),
                partial(function, *arguments),
                future,
            )
        )
        return await future

    def _run(self) -> None:
        if self._niceness and sys.platform == "linux":  # elsewhere it would be the whole process's
            os.nice(self._niceness)  # this thread's; more of it than before needs no privilege
        while True:
            self._call(*self._calls.get()[2:])  # between calls nothing is held here

    def _call(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        self._since = time.monotonic()
        try:
            report = partial(_resolve, future, function())
        except BaseException as error:  # noqa: BLE001 - it is the caller's, who waits in another thread
            report = partial(_fail, future, error)
        self._since = None  # before anybody hears of the end
        loop = future.get_loop()
        if not loop.is_closed():  # else the process is about to end
            loop.call_soon_threadsafe(report)


def _resolve(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
