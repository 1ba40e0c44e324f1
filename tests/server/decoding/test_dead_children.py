"""Children that are gone, or do not come, while no file is at fault."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.decoding.pool import DecodePool
from tests.clips import write_clip
from tests.server.decoding.test_pool import children


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "a.mp4")


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    async with DecodePool(1, seconds=5) as pool:
        yield pool


def kill_all() -> None:
    """End every child; dead on return, but nobody has waited for them."""
    for child in children():
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


async def test_a_child_that_died_before_it_saw_the_file_is_no_bad_video(pool: DecodePool, clip: Path) -> None:
    kill_all()
    assert (await pool.probe(clip)).num_frames == 30


async def test_children_that_cannot_be_started_now_are_started_later(
    pool: DecodePool, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nowhere/python")
        kill_all()
        waiting = asyncio.create_task(pool.probe(clip))
        await asyncio.sleep(0.3)
        assert not waiting.done()
    assert (await asyncio.wait_for(waiting, 20)).num_frames == 30
