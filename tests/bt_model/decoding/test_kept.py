"""A decode that runs out of time: what it has is kept, and the same request goes on from there."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bt_model.decoding import kept, process, wire
from bt_model.decoding.decoded import Decoded, FrameMemories
from bt_model.decoding.kept import FrameKeeper, KeptFrames
from bt_model.decoding.pool import DecodePool
from bt_model.decoding.queue import DecodeJob
from bt_model.decoding.sandbox import ChildLimits
from bt_model.errors import DecodeTimeoutError, InvalidValueError, PartlyDecodedError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode
from tests.bt_model.decoding.pools import SIZE, open_files, pixels_of, until
from tests.clips import write_clip
from tests.faulty_child import COMMAND, HURRIED_FRAMES, write_hurried

ALL = Sampling(num_frames=30)
PADDED = FrameSize(32, "pad")


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A clip of six groups of pictures, of which two are decoded in time."""
    return write_hurried(tmp_path / "a.mp4", group=5)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecodePool]:
    monkeypatch.setattr(process, "_COMMAND", COMMAND)
    with DecodePool(1, seconds=20) as pool:
        yield pool


def stopped(pool: DecodePool, path: Path, sampling: Sampling = ALL, owner: str = "") -> PartlyDecodedError:
    with pytest.raises(PartlyDecodedError) as caught:
        pool.decode(path, sampling, [SIZE, PADDED], 8, owner=owner).result()
    return caught.value


def test_the_same_request_goes_on_where_the_last_one_ended(pool: DecodePool, slow: Path) -> None:
    before = open_files()
    error = stopped(pool, slow)
    assert error.indices == tuple(range(HURRIED_FRAMES))
    assert error.message.startswith("10 of 30 frames were decoded within 20 s and are kept")
    assert stopped(pool, slow).indices == tuple(range(2 * HURRIED_FRAMES))
    with pool.decode(slow, ALL, [SIZE, PADDED], 8).result() as frames:
        for size in (SIZE, PADDED):
            np.testing.assert_array_equal(pixels_of(frames, size), decode(slow, ALL, size, 8).pixels)
    assert open_files() == before


def test_a_plan_leaves_what_is_kept(pool: DecodePool, slow: Path) -> None:
    before = open_files()
    stopped(pool, slow)
    asked = wire.Request("plan", ALL, (SIZE, PADDED), 8, b"")
    assert pool.plan(slow, asked).result().indices == tuple(range(30))
    assert stopped(pool, slow).indices == tuple(range(2 * HURRIED_FRAMES))
    pool.keeper.close()
    assert open_files() == before


def test_frames_to_be_shown_are_those_that_an_answer_left(pool: DecodePool, slow: Path) -> None:
    for _ in range(2):
        with pytest.raises(PartlyDecodedError):
            pool.thumbnails(slow, ALL, SIZE, 8).result()
    with pool.decode(slow, ALL, [SIZE], 8).result() as frames:
        assert frames.num_frames == 30


def test_other_frames_and_other_owners_begin_anew(pool: DecodePool, slow: Path) -> None:
    for _ in range(2):
        stopped(pool, slow, owner="one")
    assert len(stopped(pool, slow, owner="another").indices) == HURRIED_FRAMES
    assert len(stopped(pool, slow, Sampling(num_frames=29), "one").indices) < HURRIED_FRAMES + 1
    pool.decode(slow, ALL, [SIZE, PADDED], 8, owner="one").result().close()


def test_without_a_frame_there_is_nothing_to_go_on_from(pool: DecodePool, tmp_path: Path) -> None:
    slow = write_hurried(tmp_path / "a.mp4", group=30)
    with pytest.raises(DecodeTimeoutError, match="within 20 s") as caught:
        pool.decode(slow, Sampling(start=0.8, num_frames=1), [SIZE], 8).result()
    assert not isinstance(caught.value, PartlyDecodedError)


@pytest.mark.parametrize(
    ("gigapixels", "seconds"), [(0, 30.0), (5, 30.0), (15, 90.0), (49, 294.0), (51, 300.0), (1e9, 300.0)]
)
def test_the_time_is_in_proportion_to_the_pixels_within_bounds(gigapixels: float, seconds: float) -> None:
    assert ChildLimits().allowed(int(gigapixels * 1e9)) == pytest.approx(seconds)
    assert ChildLimits(seconds=400.0).allowed(int(gigapixels * 1e9)) == 400.0


def job(owner: str, number: int) -> DecodeJob:
    request = wire.Request("frames", Sampling(num_frames=number), (SIZE,))
    return DecodeJob(Path("a"), request, owner)


def frames_of(num_bytes: int) -> KeptFrames:
    memory = os.memfd_create("frames")
    os.ftruncate(memory, num_bytes)
    memories = FrameMemories()
    memories[SIZE] = memory
    return KeptFrames((0,), memories, memories.num_bytes)


def test_no_more_is_kept_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    before, keeper = open_files(), FrameKeeper(1000)
    keeper.put(job("a", 1), frames_of(600))
    keeper.put(job("b", 1), frames_of(400))
    keeper.put(job("b", 2), frames_of(300))
    assert not keeper.take(job("b", 1)).indices, "the oldest of the one who has most went"
    for number in range(1, 7):
        keeper.put(job("c", number), frames_of(1))
    assert not keeper.take(job("c", 2)).indices, "one owner has four at most"
    assert open_files() == before + 6
    taken = keeper.take(job("b", 2))
    assert taken.num_bytes == 300
    keeper.put(job("b", 2), taken)
    monkeypatch.setattr(kept, "_SECONDS", 0.0)
    assert not keeper.take(job("b", 2)).indices, "it is old"
    assert open_files() == before
    keeper.put(job("b", 1), frames_of(1))
    keeper.close()
    assert open_files() == before


def test_one_who_asks_for_much_displaces_only_his_own() -> None:
    keeper = FrameKeeper(1000)
    keeper.put(job("a", 1), frames_of(200))
    keeper.put(job("b", 1), frames_of(300))
    for number in range(1, 5):
        keeper.put(job("c", number), frames_of(450))
        keeper.put(job("c", number), frames_of(450))
    keeper.put(job("d", 1), frames_of(1001))
    assert [keeper.take(job(owner, 1)).num_bytes for owner in "abd"] == [200, 300, 0]
    assert [keeper.take(job("c", number)).num_bytes for number in range(1, 5)] == [0, 0, 0, 450]
    keeper.close()


def test_an_idle_pool_frees_what_is_old(
    pool: DecodePool, slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_SECONDS", 0.5)
    before = open_files()
    stopped(pool, slow)
    assert open_files() == before + 2
    until(lambda: open_files() == before)


def test_what_is_decoded_is_no_thumbnail_s_memory(pool: DecodePool, tmp_path: Path) -> None:
    before = open_files()
    shown: Decoded = pool.thumbnails(write_clip(tmp_path / "a.mp4"), ALL, SIZE, 8).result()
    assert len(shown.jpegs) == 30
    assert shown.memories == {}
    assert open_files() == before


def test_failures_without_frames_displace_none(pool: DecodePool, slow: Path) -> None:
    stopped(pool, slow)
    for number in range(8):
        with pytest.raises(InvalidValueError):
            pool.decode(slow, Sampling(num_frames=1, start=60.0 + number), [SIZE], 8).result()
    assert stopped(pool, slow).indices == tuple(range(2 * HURRIED_FRAMES))
