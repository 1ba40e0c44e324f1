"""The decode pool awaited: results, refusals, and callers that leave."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bt_model.decoding.pool import DecodePool
from bt_model.errors import VideoError
from bt_model.video.decode import probe
from server.decoding.futures import finished, running
from tests.bt_model.decoding.pools import FOUR, SIZE, is_there, open_files, stop_child, until
from tests.clips import write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "a.mp4")


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    async with running(DecodePool(1, seconds=5)) as pool:
        yield pool


async def test_what_the_pool_made_of_a_file_is_awaited(pool: DecodePool, clip: Path) -> None:
    assert (await finished(pool.probe(clip))).facts == probe(clip)
    with await finished(pool.decode(clip, FOUR, [SIZE], 8)) as frames:
        assert [*frames.memories] == [SIZE]


async def test_the_event_loop_goes_on_while_a_child_decodes(pool: DecodePool, clip: Path) -> None:
    stop_child(pool)
    task = asyncio.create_task(finished(pool.probe(clip)))
    await asyncio.sleep(0.1)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_refusal_of_the_child_is_raised_here(pool: DecodePool, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"")
    with pytest.raises(VideoError) as caught:
        await finished(pool.probe(path))
    assert caught.value.code == "empty_file"


async def test_who_leaves_ends_the_child_at_work(pool: DecodePool, clip: Path) -> None:
    child = stop_child(pool)
    given_up = asyncio.create_task(finished(pool.decode(clip, FOUR, [SIZE], 8)))
    await asyncio.sleep(0.1)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await asyncio.to_thread(until, lambda: not is_there(child), 2)
    assert (await finished(pool.probe(clip))).facts.num_frames == 30


async def test_frames_that_come_for_one_who_has_just_left_are_given_back(
    pool: DecodePool, clip: Path
) -> None:
    before = open_files()
    child = stop_child(pool)
    task = asyncio.create_task(finished(pool.decode(clip, FOUR, [SIZE], 8)))
    await asyncio.sleep(0)  # it has asked
    until(lambda: pool.num_idle == 0)
    os.kill(child, signal.SIGCONT)
    until(lambda: pool.num_idle == 1)  # the answer is there; the event loop has not looked
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_files() == before


async def test_leaving_ends_every_child(clip: Path) -> None:
    async with running(DecodePool(2)) as pool:
        children = pool.pids
        task = asyncio.create_task(finished(pool.probe(clip)))
        await task
    assert not any(map(is_there, children))


async def test_a_start_that_is_called_off_leaves_no_child() -> None:
    pool = DecodePool(1)
    starting = asyncio.create_task(running(pool).__aenter__())
    await asyncio.to_thread(until, lambda: len(pool.pids) == 1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert pool.pids == []
