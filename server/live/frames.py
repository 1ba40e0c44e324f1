"""Frames of one session on their way to its window: the newest wins, and questions wait for those before."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from server.admission import HeldBytes


@dataclass(frozen=True, slots=True, eq=False)
class SentFrame:
    """A picture as it came: its number among all that came, and when it was taken; `held` counts its bytes.

    `gone` is done once it is in the window, or will never be.
    """

    number: int
    seconds: float
    picture: bytes
    held: HeldBytes
    gone: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def leave(self) -> None:
        """It takes no memory any more."""
        self.held.keep(0)
        if not self.gone.done():
            self.gone.set_result(None)


class FrameQueue:
    """One frame is worked on and one waits; another that comes meanwhile takes its place.

    A frame that a question waits for keeps its place, so that as many wait as questions do, and one more.
    """

    def __init__(self, work: Callable[[SentFrame], Awaitable[None]]) -> None:
        self._work = work
        self._at_work: SentFrame | None = None
        self._waiting: deque[SentFrame] = deque()
        self._awaited: set[SentFrame] = set()
        self._changed = asyncio.Event()

    def offer(self, frame: SentFrame) -> SentFrame | None:
        """The next frame; returns the older one that is dropped for it."""
        late = self._waiting.pop() if self._waiting and self._waiting[-1] not in self._awaited else None
        if late is not None:
            late.leave()
        self._waiting.append(frame)
        self._changed.set()
        return late

    def settled(self) -> asyncio.Future[None]:
        """Done once all frames that have come by now are in the window."""
        last = self._waiting[-1] if self._waiting else self._at_work
        if last is None:
            nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        self._awaited.add(last)
        return last.gone

    async def run(self) -> None:
        """Work on one after the other; never returns. Raises what the work raises."""
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            frame = self._at_work = self._waiting.popleft()
            try:
                await self._work(frame)
            finally:
                self._at_work = None
                self._awaited.discard(frame)
                frame.leave()

    def close(self) -> None:
        """Whoever waits for a frame waits no longer."""
        while self._waiting:
            self._waiting.popleft().leave()
