"""The pool's lock: while a thread holds it, no other changes or reads what it guards.

A race that is lost once in a million times proves nothing, so the lock itself is held here.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bt_model.decoding.pool import DecodePool
from bt_model.errors import EngineError
from tests.bt_model.decoding.pools import until_ready

_A_WHILE = 0.5  # seconds in which an unlocked call would long be through


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def is_waiting(call: "Future[Any]") -> bool:
    time.sleep(_A_WHILE)
    return not call.done()


def test_children_are_counted_between_changes(executor: ThreadPoolExecutor) -> None:
    with DecodePool(1) as pool:
        until_ready(pool)
        with pool._changed:  # pyright: ignore[reportPrivateUsage] - see above
            counted = executor.submit(lambda: pool.pids)
            assert is_waiting(counted)
        assert len(counted.result(10)) == 1


def test_a_child_is_entered_and_struck_off_between_changes(executor: ThreadPoolExecutor) -> None:
    pool = DecodePool(1)
    lock, children = pool._changed, pool._children  # pyright: ignore[reportPrivateUsage] - see above
    with lock:
        starting = executor.submit(pool.start)
        time.sleep(3)  # a child's process is there after some milliseconds
        assert not children
    starting.result(60)
    (child,) = children
    with lock:
        child.kill()
        assert is_waiting(executor.submit(pool.close))
        assert children == {child}


def test_those_who_wait_are_told_between_changes(executor: ThreadPoolExecutor, tmp_path: Path) -> None:
    pool = DecodePool(1)  # not started, so that the job stays
    waiting = pool.probe(tmp_path / "a.mp4")
    with pool._changed:  # pyright: ignore[reportPrivateUsage] - see above
        telling = executor.submit(pool._fail_waiting, EngineError("no more"))  # pyright: ignore[reportPrivateUsage] - see above
        assert is_waiting(telling)
        assert not waiting.done()
    telling.result(10)
    with pytest.raises(EngineError, match="no more"):
        waiting.result(10)
