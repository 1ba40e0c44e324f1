"""Decode children: what they read, and that no clip ends more than one of them."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bt_model.errors import TrainingError, VideoError
from bt_model.training.data.decode_child import Request, read_clip
from bt_model.training.data.decode_pool import DecodePool, Reply
from bt_model.training.data.sampling import Crop
from bt_model.types import Sampling
from bt_model.video.sample import frame_indices, random_bounds
from tests.clips import ClipSpec, numbers_in, write_clip

HOSTILE = Path(__file__).parents[4].parent / "shared" / "hostile"
T, SIDE = 4, 24
WHOLE = Crop(1.0, 1.0, 1.5, 1.5)  # the clip's own aspect


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(
        tmp_path_factory.mktemp("clips") / "a.mp4", ClipSpec(num_frames=25, width=96, height=64)
    )


def request_for(path: Path, **fields: int | None) -> Request:
    return replace(Request(str(path), 0, 0, T, SIDE, 32), **fields)


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(2, seconds=5.0)
    yield pool
    pool.close()


def answers(pool: DecodePool, requests: dict[int, Request], awaited: int | None = None) -> dict[int, Reply]:
    """Every reply, by ticket; also to what was sent before, if more are awaited than asked for."""
    waiting, got, deadline = list(requests.items()), dict[int, Reply](), time.monotonic() + 30
    while len(got) < (len(requests) if awaited is None else awaited):
        assert time.monotonic() < deadline
        while waiting and pool.num_idle:
            pool.send(*waiting.pop(0))
        got |= dict(pool.poll(0.05))
    return got


def test_frames_in_training_are_drawn_between_the_published_bounds(clip: Path) -> None:
    seen = list[list[int]]()
    for seed in range(30):
        request = replace(request_for(clip, frame_seed=seed, box_seed=0), crop=WHOLE)
        numbers = numbers_in(read_clip(request))
        expected = frame_indices(25, Sampling(T, strategy="random", seed=seed), 25, T)
        assert numbers == list(expected)
        seen.append(numbers)
    bounds = random_bounds(25, T)
    for numbers in seen:
        assert all(low <= number <= high for number, (low, high) in zip(numbers, bounds, strict=True))
    assert len({tuple(numbers) for numbers in seen}) > 10


def test_frames_for_tests_are_the_published_ones_and_the_middle_of_the_picture(clip: Path) -> None:
    pixels = read_clip(request_for(clip))
    assert pixels.shape == (T, SIDE, SIDE, 3)
    # 24 / 4 = 6 apart, and 3 in: reference-behaviour section 8
    assert numbers_in(read_clip(replace(request_for(clip), side=32))) == [3, 9, 15, 21]


def test_a_clip_inside_a_larger_file_is_read_from_its_place(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    (tmp_path / "shard").write_bytes(b"x" * 512 + data + b"y" * 100)
    inside = replace(request_for(tmp_path / "shard"), start=512, length=len(data))
    assert np.array_equal(read_clip(inside), read_clip(request_for(clip)))


def test_children_answer_with_pixels_or_with_the_reason(pool: DecodePool, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:2000])
    got = answers(
        pool,
        {
            1: request_for(clip),
            2: request_for(tmp_path / "broken.mp4"),
            3: request_for(tmp_path / "none.mp4"),
        },
    )
    assert np.array_equal(got[1], read_clip(request_for(clip)))
    assert "cut off" in str(got[2])
    assert "FileNotFoundError" in str(got[3])
    with pytest.raises(VideoError):
        read_clip(request_for(tmp_path / "broken.mp4"))


def test_a_child_that_dies_or_hangs_costs_its_clip_alone(clip: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)  # opening it waits for a writer for ever
    pool = DecodePool(2, seconds=1.0)
    try:
        got = answers(pool, {1: request_for(pipe), 2: request_for(clip), 3: request_for(clip)})
        assert got[1] == "not decoded within 1 s"
        assert not isinstance(got[2], str)
        assert not isinstance(got[3], str)
        assert len(answers(pool, {n: request_for(clip) for n in range(3)})) == 3
        pool.send(7, request_for(pipe))
        time.sleep(0.2)
        for pid in pool.pids:
            os.kill(pid, signal.SIGSEGV)
        assert answers(pool, {}, awaited=1) == {7: "the decoder died of it"}
    finally:
        pool.close()


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="the clips that abort decord are not here")
def test_clips_that_abort_a_decoder_are_broken_clips(pool: DecodePool, clip: Path) -> None:
    hostile = sorted(HOSTILE.glob("*.mp4"))
    sized = replace(request_for(clip), reader="decord", side=64, short_side=64)
    requests = {number: replace(sized, path=str(path)) for number, path in enumerate(hostile)}
    got = answers(pool, {**requests, 99: sized})
    assert all(isinstance(got[number], str) for number in requests)
    assert not isinstance(got[99], str)


def test_children_die_with_the_thread_that_made_them(clip: Path) -> None:
    pools = list[DecodePool]()

    def make() -> None:
        pools.append(DecodePool(1, seconds=5.0))
        answers(pools[0], {1: request_for(clip)})

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pools[0].pids[0]}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
    pools[0].close()


def test_children_that_do_not_start_end_the_run() -> None:
    pool = DecodePool(1, seconds=1.0, python="/bin/false")
    with pytest.raises(TrainingError, match="do not start"):
        answers(pool, {1: request_for(Path("a.mp4"))})
    pool.close()
