"""Heavy work beside the event loop."""

import asyncio
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

_T = TypeVar("_T")


class WorkThread:
    """Runs functions for the event loop, one after the other, on a thread that ends with the process."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = SimpleQueue()
        Thread(target=self._run, name=name, daemon=True).start()

    async def run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """The function's result, or what it raises; one that nobody waits for any more is not begun."""
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._calls.put((partial(function, *arguments), future))
        return await future

    def _run(self) -> None:
        while True:
            _call(*self._calls.get())  # in a function: between calls nothing is held here


def _call(function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        return
    try:
        report = partial(_resolve, future, function())
    except BaseException as error:  # noqa: BLE001 - it is the caller's, who waits in another thread
        report = partial(_fail, future, error)
    loop = future.get_loop()
    if not loop.is_closed():  # else the process is about to end
        loop.call_soon_threadsafe(report)


def _resolve(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
