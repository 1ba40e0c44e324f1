"""Functions on a thread of their own, awaited on the event loop."""

import asyncio
import os
import sys
import threading
import time

import pytest

from server.worker.thread import WorkThread


async def test_results_and_errors_come_back_in_turn() -> None:
    thread, order = WorkThread("t"), list[int]()

    def work(number: int) -> int:
        order.append(number)
        if number == 1:
            raise ZeroDivisionError
        return threading.get_ident()

    found = await asyncio.gather(*(thread.run(work, n) for n in range(3)), return_exceptions=True)
    assert order == [0, 1, 2]
    assert isinstance(found[1], ZeroDivisionError)
    assert found[0] == found[2] != threading.get_ident()


async def test_the_lightest_is_next_and_equals_keep_their_order() -> None:
    thread, gate, order = WorkThread("t"), threading.Event(), list[str]()
    first = asyncio.create_task(thread.run(gate.wait, 10, weight=9))
    names = {"large": 3 << 40, "small": 1 << 40, "small too": 1 << 40, "larger": 4 << 40}
    calls = [thread.run(order.append, name, weight=weight) for name, weight in names.items()]
    waiting = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)  # all have queued
    gate.set()
    await asyncio.gather(first, *waiting)
    assert order == ["small", "small too", "large", "larger"]


async def test_a_heavy_call_is_not_overtaken_for_ever() -> None:
    thread, order = WorkThread("t"), list[str]()
    heavy = asyncio.create_task(thread.run(order.append, "heavy", weight=300_000))
    end = asyncio.get_running_loop().time() + 5
    while not heavy.done() and asyncio.get_running_loop().time() < end:
        await asyncio.gather(*(thread.run(time.sleep, 0.01, weight=1) for _ in range(2)))
    assert heavy.done()


@pytest.mark.skipif(sys.platform != "linux", reason="niceness of a thread is Linux's")
async def test_a_thread_is_nicer_than_the_process_whatever_its_own_niceness() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    there = await WorkThread("t", 3).run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert there == min(own + 3, 19)
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


async def test_what_nobody_waits_for_any_more_is_not_begun_and_what_has_begun_is_let_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    thread, gate, begun = WorkThread("t"), threading.Event(), list[str]()

    def work(name: str) -> None:
        begun.append(name)
        assert gate.wait(10)

    tasks = [asyncio.create_task(thread.run(work, name)) for name in ("running", "waiting")]
    while not begun:  # noqa: ASYNC110 - another thread fills it
        await asyncio.sleep(0.005)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    gate.set()
    assert await thread.run(len, "next") == 4
    assert begun == ["running"]
    assert not caplog.text  # nor does its result, for which nobody waits, upset the loop


def test_a_thread_outlives_the_loop_that_left_it() -> None:
    gate = threading.Event()
    thread = WorkThread("t")

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(thread.run(gate.wait, 10), 0.05)

    asyncio.run(leave())
    gate.set()  # its loop is closed when it ends
    assert asyncio.run(thread.run(len, "next")) == 4
