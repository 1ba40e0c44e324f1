"""Frames on their way: the newest wins, questions wait for those before them and for no other."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from server.admission import HeldBytes, Shares
from server.live.frames import FrameQueue, SentFrame


class Work:
    """Works on a frame until it is let go on."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.queue = FrameQueue(self.keep)
        self.shares = Shares(1000, 1, 0)
        self._go = asyncio.Semaphore(0)

    async def keep(self, frame: SentFrame) -> None:
        await self._go.acquire()
        self.done.append(frame.number)

    async def go(self, count: int = 1) -> None:
        for _ in range(count):
            self._go.release()
        await rest()

    def send(self, number: int) -> int | None:
        """The number of the frame that is dropped for it."""
        held = HeldBytes(self.shares, "a")
        held.add(10)
        late = self.queue.offer(SentFrame(number, float(number), b"0123456789", held))
        return None if late is None else late.number


async def rest() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@contextmanager
def running(work: Work) -> Generator[asyncio.Task[None]]:
    task = asyncio.create_task(work.queue.run())
    try:
        yield task
    finally:
        task.cancel()


async def test_of_frames_that_come_too_fast_the_newest_is_next() -> None:
    work = Work()
    with running(work):
        assert work.send(0) is None
        await rest()
        assert [work.send(number) for number in (1, 2, 3)] == [None, 1, 2]
        await work.go(4)
    assert work.done == [0, 3]
    assert work.shares.taken == 0


async def test_a_frame_that_a_question_waits_for_is_not_dropped_and_no_later_one_is_waited_for() -> None:
    work = Work()
    with running(work):
        work.send(0)
        await rest()
        work.send(1)
        settled = work.queue.settled()
        assert [work.send(number) for number in (2, 3)] == [None, 2]
        await work.go()
        assert not settled.done()
        await work.go()
        assert settled.done()
        assert work.done == [0, 1]
        await work.go()
    assert work.done == [0, 1, 3]


async def test_the_frame_at_work_is_waited_for_and_without_any_nothing_is() -> None:
    work = Work()
    assert work.queue.settled().done()
    with running(work):
        work.send(0)
        await rest()
        settled = work.queue.settled()
        assert not settled.done()
        await work.go()
        assert settled.done()
        assert work.queue.settled().done()


async def test_what_breaks_at_work_ends_it_and_nobody_waits_on() -> None:
    async def broken(frame: SentFrame) -> None:
        raise RuntimeError("scripted")

    work = Work()
    work.queue = FrameQueue(broken)
    work.send(0)
    settled = work.queue.settled()
    with running(work) as task:
        await rest()
        with pytest.raises(RuntimeError, match="scripted"):
            task.result()
    assert settled.done()


async def test_what_waits_at_the_end_is_given_up() -> None:
    work = Work()
    work.send(0)
    settled = work.queue.settled()
    work.send(1)
    assert work.shares.taken == 20
    work.queue.close()
    assert settled.done()
    assert work.shares.taken == 0
