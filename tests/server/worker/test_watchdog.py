"""A process that can no longer answer ends by itself, soon, and says why."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from bt_model.backends.echo import EchoLM, EchoRunner
from bt_model.generation.chunk import Chunk
from bt_model.generation.faults import breaks_device
from server.engine import wire
from server.worker.thread import WorkThread
from server.worker.watchdog import find_fault
from tests.server.worker.test_requests import EchoLoader, Site

ILLEGAL = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


class BrokenRunner(EchoRunner):
    """Calls the test before every step."""

    def __init__(self, num_pages: int, instead: Callable[[Sequence[Chunk]], None]) -> None:
        super().__init__(num_pages)
        self._instead = instead

    def forward(self, embeds: torch.Tensor, chunks: Sequence[Chunk]) -> Iterator[torch.Tensor]:
        self._instead(chunks)
        yield from super().forward(embeds, chunks)


class BrokenLM(EchoLM):
    def __init__(self, instead: Callable[[Sequence[Chunk]], None]) -> None:
        self._instead = instead

    def start(self, num_pages: int, *, keep_weights: bool = True) -> EchoRunner:
        return BrokenRunner(num_pages, self._instead)


@asynccontextmanager
async def site_with(instead: Callable[[Sequence[Chunk]], None], seconds: float = 9.0) -> AsyncGenerator[Site]:
    loader = EchoLoader(BrokenLM(instead))
    loader.backend.gate.set()
    site = Site(loader, seconds)
    assert isinstance(await site.next(), wire.Ready)
    yield site
    await site.worker._models.stop()  # pyright: ignore[reportPrivateUsage] - a process would just end
    site.channel.close()


@pytest.mark.parametrize(
    ("error", "is_fatal"),
    [
        (ILLEGAL, True),
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA error"), False),
    ],
)
def test_errors_that_break_a_device_are_told_from_others(error: Exception, is_fatal: bool) -> None:
    assert breaks_device(error) == is_fatal


async def test_an_accelerator_that_fails_ends_the_process_within_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(chunks: Sequence[Chunk]) -> None:
        raise ILLEGAL

    async with site_with(fail) as site:
        site.ask()
        begin = time.monotonic()
        assert not await asyncio.wait_for(site.work, 5)
        assert time.monotonic() - begin < 1
    assert "the generation thread of a is gone; this process ends" in caplog.text


async def test_a_step_that_hangs_ends_the_process_after_its_time(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()

    def hang(chunks: Sequence[Chunk]) -> None:
        gate.wait(20)

    async with site_with(hang, seconds=0.5) as site:
        site.ask()
        begin = time.monotonic()
        assert not await asyncio.wait_for(site.work, 10)
        assert 0.5 < time.monotonic() - begin < 1.5
        gate.set()
    assert "one step of a has taken" in caplog.text


async def test_what_a_fault_cuts_off_does_not_look_like_a_cancelled_answer() -> None:
    gate = threading.Event()

    def hang(chunks: Sequence[Chunk]) -> None:
        gate.wait(20)

    async with site_with(hang, seconds=0.2) as site:
        site.ask()
        assert not await asyncio.wait_for(site.work, 10)
        gate.set()
        cut_off = list(site.worker._requests.values())  # pyright: ignore[reportPrivateUsage] - as the loop's end does
        for task in cut_off:
            task.cancel()
        await asyncio.wait(cut_off)
        await asyncio.sleep(0.05)
        assert cut_off
        assert site.received.empty()
        assert site.channel.is_closed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_vision_thread_that_dies_ends_the_process_within_a_second(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_with(lambda chunks: None) as site:
        thread = site.worker._vision.thread  # pyright: ignore[reportPrivateUsage] - no message of ours can end it
        monkeypatch.setattr(thread, "_call", lambda *_work: sys.exit())
        await thread.run(len, "")  # which it waited for with the call that it had
        begin = time.monotonic()
        clip = asyncio.create_task(thread.run(len, ""))
        assert not await asyncio.wait_for(site.work, 5)
        assert time.monotonic() - begin < 1
        clip.cancel()
    assert "the vision thread is gone; this process ends" in caplog.text


async def test_a_lack_of_memory_is_tried_again_in_halves_and_all_are_answered() -> None:
    def fail(chunks: Sequence[Chunk]) -> None:
        if len(chunks) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    async with site_with(fail) as site:
        for number in range(60):
            site.channel.send(wire.Ask(str(number), "a", "public", [], [["user", "hello"]], {}, 10.0))
        ends = list[Any]()
        while len(ends) < 60:
            message = await site.next()
            if not isinstance(message, wire.Piece):
                ends.append(message)
        assert {type(end) for end in ends} == {wire.Done}
        site.channel.send(wire.Shutdown(0.0))
        assert await asyncio.wait_for(site.work, 10)


async def test_a_thread_that_has_ended_or_hangs_is_found() -> None:
    thread, gate = WorkThread("vision"), threading.Event()
    assert find_fault((), [thread], 0.1) is None
    hanging = asyncio.create_task(thread.run(gate.wait, 10))
    await asyncio.sleep(0.3)
    assert find_fault((), [thread], 9.0) is None
    assert "vision thread has been at one thing" in str(find_fault((), [thread], 0.1))
    gate.set()
    await hanging
    assert find_fault((), [thread], 0.1) is None
    ended = cast("WorkThread", SimpleNamespace(name="vision", is_alive=False, busy_seconds=0.0))
    assert find_fault((), [ended], 9.0) == "the vision thread is gone"
