"""What decode children read for training, and that no clip ends more than one of them."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bt_model.decoding.child import read_frames
from bt_model.decoding.pool import DecodePool
from bt_model.decoding.wire import Request
from bt_model.errors import EngineError
from bt_model.training.data.loader import decode_pool, why_broken
from bt_model.training.pretrain.settings import PretrainData
from bt_model.types import FrameSize, Sampling
from bt_model.video.crop import Crop, Cutout
from bt_model.video.sample import choose_frames, segment_bounds
from tests.bt_model.decoding.pools import is_there, stop_child, until
from tests.clips import HOSTILE, ClipSpec, numbers_in, write_clip

T, SIDE = 4, 24
WHOLE = Crop(1.0, 1.0, 1.5, 1.5)  # the clip's own aspect
CENTRAL = Request("frames", Sampling(T, strategy="retrieval"), (FrameSize(32, "whole"),), cutout=Cutout(SIDE))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(
        tmp_path_factory.mktemp("clips") / "a.mp4", ClipSpec(num_frames=25, width=96, height=64)
    )


def read(path: Path, request: Request = CENTRAL) -> NDArray[np.uint8]:
    with path.open("rb") as file:
        return read_frames(file, request)[0].pixels


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    with decode_pool(PretrainData(workers=2, seconds=5.0)) as pool:
        yield pool


def reason(pool: DecodePool, path: Path, request: Request = CENTRAL) -> str:
    error = pool.read(path, request).exception()
    assert error is not None
    return why_broken(error)


def test_frames_in_training_are_drawn_between_the_published_bounds(clip: Path) -> None:
    seen = list[list[int]]()
    for seed in range(30):
        sampling = Sampling(T, strategy="random", seed=seed)
        numbers = numbers_in(read(clip, replace(CENTRAL, sampling=sampling, cutout=Cutout(SIDE, 0, WHOLE))))
        assert numbers == list(choose_frames(25, sampling, 25, T).indices)
        seen.append(numbers)
    bounds = segment_bounds(25, T)
    for numbers in seen:
        assert all(low <= number <= high for number, (low, high) in zip(numbers, bounds, strict=True))
    assert len({tuple(numbers) for numbers in seen}) > 10


def test_frames_for_tests_are_the_published_ones_and_the_middle_of_the_picture(clip: Path) -> None:
    assert read(clip).shape == (T, SIDE, SIDE, 3)
    # 24 / 4 = 6 apart, and 3 in: the published retrieval test
    assert numbers_in(read(clip, replace(CENTRAL, cutout=Cutout(32)))) == [3, 9, 15, 21]


@pytest.mark.parametrize("cutout", [Cutout(SIDE), Cutout(SIDE, 7)], ids=["central", "drawn"])
def test_frames_of_a_child_are_those_that_are_read_here(pool: DecodePool, clip: Path, cutout: Cutout) -> None:
    request = replace(CENTRAL, cutout=cutout)
    found = pool.read(clip, request).result()
    assert found.shape == (T, SIDE, SIDE, 3)
    assert np.array_equal(found, read(clip, request))


def test_a_clip_inside_a_larger_file_is_read_from_its_place(
    pool: DecodePool, clip: Path, tmp_path: Path
) -> None:
    data = clip.read_bytes()
    (tmp_path / "shard").write_bytes(b"x" * 512 + data + b"y" * 100)
    inside = replace(CENTRAL, start=512, length=len(data))
    assert np.array_equal(pool.read(tmp_path / "shard", inside).result(), read(clip))


def test_a_clip_that_cannot_be_read_has_a_reason(pool: DecodePool, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:2000])
    assert "cut off" in reason(pool, tmp_path / "broken.mp4")
    assert "FileNotFoundError" in reason(pool, tmp_path / "none.mp4")


def test_a_clip_that_kills_a_child_or_hangs_has_a_reason(clip: Path) -> None:
    with decode_pool(PretrainData(workers=1, seconds=0.5)) as pool:
        stop_child(pool)
        assert reason(pool, clip) == "the video was not decoded within 0.5 s"
        until(lambda: pool.num_idle == 1)
        child = stop_child(pool)
        reply = pool.read(clip, CENTRAL)
        until(lambda: pool.num_idle == 0)
        os.kill(child, signal.SIGABRT)
        os.kill(child, signal.SIGCONT)
        error = reply.exception()
        assert error is not None
        assert why_broken(error).endswith("(the decoder died of it)")
        assert np.array_equal(pool.read(clip, CENTRAL).result(), read(clip))
        assert not is_there(child)


def test_what_is_no_fault_of_a_clip_ends_the_run() -> None:
    with pytest.raises(EngineError, match="do not start"):
        why_broken(EngineError("the decode children do not start"))


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_decord_shows_training_the_frames_that_pyav_does(tmp_path: Path, name: str) -> None:
    options = {"g": "7", "bf": "2", "qmin": "1", "qmax": "2", "b": "9M"}
    clip = write_clip(tmp_path / name, ClipSpec(codec="mpeg4", options=options))
    with decode_pool(PretrainData(workers=1, seconds=5.0, reader="decord")) as pool:
        for seed in range(8):
            sampling = Sampling(T, strategy="random", seed=seed)
            request = replace(CENTRAL, sampling=sampling, cutout=Cutout(32))
            shown = numbers_in(pool.read(clip, request).result())
            assert shown == list(choose_frames(30, sampling, 25, T).indices)


def test_clips_that_abort_decord_where_it_opens_files_are_read(clip: Path) -> None:
    request = replace(CENTRAL, sizes=(FrameSize(64, "whole"),), cutout=Cutout(64))
    with decode_pool(PretrainData(workers=2, seconds=5.0, reader="decord")) as pool:
        for path in [*HOSTILE, clip]:
            assert pool.read(path, request).result().shape == (T, 64, 64, 3)
