"""The decode pool with real children: what it hands back, and what it costs."""

import fcntl
import io
import mmap
import os
import resource
import sys
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bt_model.decoding.pool import DecodePool
from bt_model.decoding.sandbox import ChildLimits
from bt_model.errors import EngineError, InvalidValueError, VideoError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode, probe
from bt_model.video.sample import SingleFrame
from tests.bt_model.decoding.pools import FOUR, SIZE, is_there, open_files, pixels_of, until_ready
from tests.clips import ClipSpec, numbers_in, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "a.mp4")


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    with DecodePool(1, seconds=5) as pool:
        yield pool


def test_frames_from_a_child_equal_frames_decoded_here(pool: DecodePool, clip: Path) -> None:
    here = decode(clip, FOUR, SIZE, 8)
    with pool.decode(clip, FOUR, [SIZE], 8).result() as frames:
        np.testing.assert_array_equal(pixels_of(frames), here.pixels)
        assert (frames.indices, frames.timestamps, frames.facts) == (
            here.indices,
            here.timestamps,
            here.facts,
        )


def test_one_decode_gives_every_size(pool: DecodePool, clip: Path) -> None:
    sizes = [SIZE, FrameSize(32, "crop"), FrameSize(32, "pad"), SIZE]
    with pool.decode(clip, FOUR, sizes, 8).result() as frames:
        for size in sizes:
            np.testing.assert_array_equal(pixels_of(frames, size), decode(clip, FOUR, size, 8).pixels)
        assert len(frames.memories) == 3
    assert frames.memories == {}


def test_frames_come_back_in_memory_that_nobody_can_change(pool: DecodePool, clip: Path) -> None:
    with pool.decode(clip, FOUR, [SIZE], 8).result() as frames:
        assert fcntl.fcntl(frames.memories[SIZE], fcntl.F_GET_SEALS) == (
            fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        )
        with pytest.raises(PermissionError):
            mmap.mmap(frames.memories[SIZE], 0)


def test_closing_frames_twice_closes_once(pool: DecodePool, clip: Path) -> None:
    before = open_files()
    frames = pool.decode(clip, FOUR, [SIZE], 8).result()
    frames.close()
    frames.close()
    assert open_files() == before


def test_probe_tells_the_facts(pool: DecodePool, clip: Path) -> None:
    assert pool.probe(clip).result().facts == probe(clip)


def test_thumbnails_show_the_frames_of_the_model(pool: DecodePool, clip: Path) -> None:
    found = pool.thumbnails(clip, FOUR, SIZE, 8).result()
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in found.jpegs])
    assert pictures.shape == (4, 64, 64, 3)
    assert numbers_in(pictures) == list(found.indices)


def test_a_picture_is_one_frame_of_the_whole_file_uncropped(pool: DecodePool, clip: Path) -> None:
    found = pool.picture(clip, SingleFrame(17), 48).result()
    (jpeg,) = found.jpegs
    picture = Image.open(io.BytesIO(jpeg))
    assert (found.indices, picture.size) == ((17,), (48, 32))
    assert numbers_in(np.asarray(picture)[None]) == [17]


def test_a_picture_is_the_one_on_screen(pool: DecodePool, clip: Path) -> None:
    times = pool.thumbnails(clip, Sampling(num_frames=30), SIZE, 8).result().timestamps
    for seconds, index in ((0.0, 0), (times[5], 5), (times[6] - 0.001, 5), (times[-1] + 0.02, 29)):
        assert pool.picture(clip, SingleFrame(seconds=seconds), 96).result().indices == (index,)


@pytest.mark.parametrize(
    ("single", "text"),
    [
        (SingleFrame(30), "index is 30; allowed: 0 to 29, the frames of the video"),
        (SingleFrame(seconds=9), "t is 9; allowed: 0 to 1.2, the seconds of the video"),
    ],
)
def test_a_picture_behind_the_end_is_refused(
    pool: DecodePool, clip: Path, single: SingleFrame, text: str
) -> None:
    with pytest.raises(InvalidValueError, match=text):
        pool.picture(clip, single, 96).result()


def test_a_refusal_of_the_child_is_raised_here(pool: DecodePool, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"")
    with pytest.raises(VideoError) as caught:
        pool.probe(path).result()
    assert caught.value.code == "empty_file"


def test_a_refused_file_leaves_no_memory_behind(pool: DecodePool, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"text" * 99)
    before = open_files()
    with pytest.raises(VideoError):
        pool.decode(path, FOUR, [SIZE], 8).result()
    until_ready(pool)
    assert open_files() == before


def test_where_descriptors_run_out_none_is_left_open(pool: DecodePool, clip: Path) -> None:
    before, child = open_files(), pool.pids
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, hard))  # the video and the first size
    try:
        with pytest.raises(OSError, match="Too many open files"):
            pool.decode(clip, FOUR, [SIZE, FrameSize(32)], 8).result()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until_ready(pool)
    assert (open_files(), pool.pids) == (before, child)


def test_a_bad_window_is_raised_with_its_field(pool: DecodePool, clip: Path) -> None:
    with pytest.raises(InvalidValueError) as caught:
        pool.decode(clip, Sampling(start=60), [SIZE], 8).result()
    assert caught.value.param == "sampling.start"


def test_a_missing_file_costs_no_child(pool: DecodePool, tmp_path: Path) -> None:
    first = pool.pids
    with pytest.raises(FileNotFoundError):
        pool.decode(tmp_path / "none.mp4", FOUR, [SIZE], 8).result()
    until_ready(pool)
    assert pool.pids == first


def test_a_pipe_is_no_video_and_nobody_waits_for_its_writer(pool: DecodePool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(VideoError):
        pool.probe(tmp_path / "a.mp4").result(2)


def test_a_child_outlives_the_files_that_it_refuses(pool: DecodePool, clip: Path, tmp_path: Path) -> None:
    used, path = pool.pids, tmp_path / "a.mp4"
    damaged = bytearray(clip.read_bytes())
    damaged[-400:] = bytes(400)  # in the index
    unknown = clip.read_bytes().replace(b"avc1", b"zzzz")
    for data in (b"text" * 99, b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov", damaged, unknown):
        path.write_bytes(data)
        with pytest.raises(VideoError):
            pool.probe(path).result()
    until_ready(pool)
    assert pool.pids == used


@pytest.mark.parametrize("sampling", [FOUR, Sampling(start=60)], ids=["good", "bad window"])
def test_a_child_is_replaced_after_its_last_file(clip: Path, sampling: Sampling) -> None:
    with DecodePool(1, child_limits=ChildLimits(files=2)) as pool:
        first = pool.pids
        for is_last in (False, True):
            wait([decoded := pool.decode(clip, sampling, [SIZE], 8)])
            if decoded.exception() is None:
                decoded.result().close()
            until_ready(pool)
            assert (pool.pids != first) == is_last


def test_fifty_decodes_leave_no_file_and_no_process_behind(clip: Path) -> None:
    before = open_files()
    with DecodePool(2, child_limits=ChildLimits(files=20)) as pool:
        known = set(pool.pids)
        for decoded in [pool.decode(clip, FOUR, [SIZE], 8) for _ in range(50)]:
            decoded.result().close()
            known |= set(pool.pids)
        until_ready(pool)
        assert len(pool.pids) == 2
        known |= set(pool.pids)
    assert len(known) in {3, 4}  # one child may have had its 20 files while the other has had 19
    assert (pool.pids, open_files()) == ([], before)
    assert not any(map(is_there, known))


def test_a_closed_pool_says_so(clip: Path) -> None:
    with DecodePool(1) as pool:
        pass
    for _ in range(2):
        with pytest.raises(EngineError, match="stopping"):
            pool.probe(clip).result()


def test_children_that_cannot_start_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pool = DecodePool(1)
    with pytest.raises(EngineError, match="do not start"):
        pool.start()
    assert pool.pids == []


def test_a_file_of_long_groups_is_decoded_as_well(pool: DecodePool, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.webm", ClipSpec(codec="libvpx-vp9", options={"b": "2M"}))
    with pool.decode(path, FOUR, [SIZE], 8).result() as frames:
        assert numbers_in(pixels_of(frames)) == list(frames.indices)
