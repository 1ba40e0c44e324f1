"""An event loop whose time is simulated: it jumps to the next timer, and nothing runs beside it.

What asyncio promises is kept: callbacks run in the order in which they were scheduled. What it leaves open
is drawn from the seed: which of several tasks that are ready goes first, and how long a thread takes for a
call. Threads are calls in the loop's own one, at a later moment.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

from tests.simulation.draws import Draws

_T = TypeVar("_T")

TICK = 0.001
"""Seconds between two moments: coarse, so that much happens in the same one."""

_DELAYS = (0, 0, 1, 1, 2, 5)  # ticks of a call in a thread
_MAX_CALLBACKS = 200_000  # in one moment


class PowerCut(BaseException):
    """The machine stops in the middle of a call."""


class NoPower(OSError):  # noqa: N818 - not one of ours
    """A call that comes after the machine has stopped."""


class Stuck(Exception):  # noqa: N818 - a finding
    """Nothing will ever happen again, or everything at once."""


class SimulatedFuture(asyncio.Future[Any]):
    """Ordered in sets by its number, not by its address."""

    __slots__ = ("number",)

    def __hash__(self) -> int:
        return self.number


class SimulatedTask(asyncio.Task[Any]):
    """Ordered in sets by its number, not by its address."""

    __slots__ = ("number",)

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        self.number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number


class Handle:
    """As asyncio's, which asks for more with each call."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "time")

    def __init__(
        self, time: float, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> None:
        self.time = time
        self.callback = callback
        self.args = args
        self.context = copy_context() if context is None else context
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.time


_Timer = tuple[float, int, Handle]
_Call = tuple[asyncio.Future[Any], Callable[[], Any]]


class SimulatedLoop(asyncio.AbstractEventLoop):
    """For one run; `found` gets what the loop itself notices, `cut` is told that a call met a power cut."""

    def __init__(self, draws: Draws, found: Callable[[str], None], cut: Callable[[], None]) -> None:
        self._draws = draws
        self._found = found
        self._cut = cut
        self._now = 0.0
        self._ready: list[Handle] = []
        self._timers: list[_Timer] = []
        self._numbers = 0
        self._queues: dict[Executor, deque[_Call]] = {}
        self._readers: dict[int, Handle] = {}
        self._writers: dict[int, Handle] = {}
        self.is_dead = False  # after a power cut no call in a thread does anything
        self.num_steps = 0

    # --- what tasks and futures need

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def time(self) -> float:
        return self._now

    def call_soon(  # pyright: ignore[reportIncompatibleMethodOverride] - as the interpreter calls it
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(0.0, callback, args, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """Another thread's word comes a little later, but not out of turn."""
        return self.call_at(self._now + TICK, callback, *args, context=context)

    def call_later(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        when = max(-(-when // TICK) * TICK, self._now)  # up to the next tick
        handle = Handle(when, callback, args, context)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        self._numbers += 1
        future = SimulatedFuture(loop=self)
        future.number = self._numbers
        return future

    def create_task(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, coro: Coroutine[Any, Any, _T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[_T]:
        self._numbers += 1
        return SimulatedTask(self._numbers, coro, loop=self, name=name or "task", context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, PowerCut):
            self._cut()
        if isinstance(error, PowerCut | NoPower):
            return
        self._found(f"{context.get('message')}: {type(error).__name__}: {error}")

    def run_in_executor(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, executor: Executor | None, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """In an executor of its own one call at a time, else many; begun and told at later moments."""
        future: asyncio.Future[_T] = self.create_future()
        call: _Call = (future, partial(func, *args))
        if executor is None:
            self.call_later(self._delay(), self._perform, call, None)
        else:
            queue = self._queues.setdefault(executor, deque())
            queue.append(call)
            if len(queue) == 1:
                self.call_later(self._delay(), self._perform, call, executor)
        return future

    async def shutdown_asyncgens(self) -> None: ...

    # --- sockets: simulated ones tell when there is something to read or room to write

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        self._readers[fd] = Handle(0.0, callback, args, None)

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None

    def add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        is_new = fd not in self._writers
        self._writers[fd] = Handle(0.0, callback, args, None)
        if is_new:
            self.call_later(self._delay(), self._writable, fd)

    def remove_writer(self, fd: Any) -> bool:
        return self._writers.pop(fd, None) is not None

    def readable(self, fd: int) -> bool:
        """Let the reader of a socket read; whether it has one."""
        handle = self._readers.get(fd)
        if handle is not None:
            self._run(handle)
        return handle is not None

    def _writable(self, fd: int) -> None:
        handle = self._writers.get(fd)
        if handle is not None:
            self._run(handle)
            if fd in self._writers:
                self.call_later(self._delay(), self._writable, fd)

    # --- running

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """What asyncio.run does."""
        asyncio.events._set_running_loop(self)  # as every loop does
        try:
            task = self.create_task(main)
            while not task.done():
                self.step()
            return task.result()
        finally:
            asyncio.events._set_running_loop(None)

    def step(self) -> None:
        """Everything that is ready; where nothing is, time jumps.

        Raises:
            Stuck: there is not even a timer.
        """
        if not self._ready:
            self._jump()
        batch, self._ready = self._ready, []
        if len(batch) > 1:
            self._reorder(batch)
        self.num_steps += len(batch)
        self._here += len(batch)
        if self._here > _MAX_CALLBACKS:
            raise Stuck(f"{self._here} callbacks in one moment")
        for handle in batch:
            if not handle.is_cancelled:
                try:
                    handle.context.run(handle.callback, *handle.args)
                except Exception as error:  # noqa: BLE001 - whatever a callback raises is a finding
                    self.call_exception_handler({"message": "a callback failed", "exception": error})

    _here = 0

    def clear(self) -> None:
        """Forget everything that was to happen."""
        self._timers.clear()
        self._ready.clear()
        self._queues.clear()
        self._readers.clear()
        self._writers.clear()

    def _jump(self) -> None:
        timers = self._timers
        while timers and timers[0][2].is_cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Stuck("everybody waits, and nothing will happen")
        self._now = now = timers[0][0]
        self._here = 0
        while timers and timers[0][0] <= now:
            handle = heapq.heappop(timers)[2]
            if not handle.is_cancelled:
                self._ready.append(handle)

    def _reorder(self, batch: list[Handle]) -> None:
        """Tasks that are ready one after the other have no order among them; other callbacks keep theirs."""
        first = 0
        while first < len(batch):
            last = first
            while last < len(batch) and _task_of(batch[last]) is not None:
                last += 1
            if last - first > 1:
                run = batch[first:last]
                self._draws.shuffle(run)
                batch[first:last] = run
            first = last + 1

    def _run(self, handle: Handle) -> None:
        handle.context.run(handle.callback, *handle.args)

    def _delay(self) -> float:
        return self._draws.pick(_DELAYS) * TICK

    def _perform(self, call: _Call, executor: Executor | None) -> None:
        """Make a call whose turn it is, and tell its result at a later moment."""
        future, function = call
        if executor is not None:
            queue = self._queues[executor]
            queue.popleft()
            if queue:
                self.call_later(self._delay(), self._perform, queue[0], executor)
        if future.cancelled():
            return
        result, error = None, None
        try:
            result = _without_power() if self.is_dead else function()
        except PowerCut:
            self._cut()
            return
        except Exception as raised:  # noqa: BLE001 - the one who waits has it
            error = raised
        self.call_later(self._delay(), _tell, future, result, error)


def _without_power() -> None:
    raise NoPower


def _tell(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _task_of(handle: Handle) -> asyncio.Task[Any] | None:
    """The task whose next step this is, if it is one."""
    owner = getattr(handle.callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None
