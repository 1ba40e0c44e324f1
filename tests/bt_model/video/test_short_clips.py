"""Files of a few frames, and of frames that come when something changes: which ones are shown, and when."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bt_model.decoding.pool import DecodePool
from bt_model.types import FrameSize, Sampling, Strategy
from bt_model.video.decode import decode
from tests.clips import MAX_NUMBERED, ClipSpec, numbers_in, write_clip
from tests.field import field_file

SIZE = FrameSize(64, "squash")
EIGHT = Sampling(num_frames=8)
# a screen recorder's milliseconds: a still, typing, a pause, scrolling
RECORDING = [0, 1400, *range(5100, 8000, 100), 11_900, *range(16_800, 18_400, 100)]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1, seconds=10) as pool:
        yield pool


@pytest.mark.parametrize("strategy", ["uniform", "uniform_time"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
@pytest.mark.parametrize("total", [1, 2, 3, 5])
def test_a_short_clip_is_shown_frame_by_frame(
    total: int, name: str, strategy: Strategy, tmp_path: Path
) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = write_clip(tmp_path / name, ClipSpec(num_frames=total, codec=codec))
    frames = decode(path, Sampling(num_frames=8, strategy=strategy), SIZE, 8)
    assert frames.indices == tuple(range(total))
    assert numbers_in(frames.pixels) == list(range(total))


def test_of_two_frames_red_and_blue_both_are_shown() -> None:
    path = field_file("two_frames_red_blue.mp4")
    frames = decode(path, EIGHT, SIZE, 8)
    assert frames.indices == (0, 1)
    red, blue = frames.pixels.mean(axis=(1, 2))
    assert red.argmax() == 0
    assert blue.argmax() == 2
    assert decode(path, Sampling(num_frames=8, strategy="published"), SIZE, 8).indices == (0, 0)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_a_recording_is_divided_by_its_seconds(name: str, tmp_path: Path) -> None:
    spec = ClipSpec(len(RECORDING), stamps_ms=RECORDING, options={"crf": "10", "bf": "0"})
    path = write_clip(tmp_path / name, spec)
    frames = decode(path, Sampling(num_frames=6, strategy="uniform_time"), SIZE, 8)
    # in the middles 1.5, 4.6, 7.7, 10.7, 13.8 and 16.9 are five pictures; the sixth is of the longest gap
    assert [round(seconds, 3) for seconds in frames.timestamps] == [1.4, 5.1, 7.6, 7.9, 11.9, 16.8]
    assert numbers_in(frames.pixels) == [i % MAX_NUMBERED for i in frames.indices]


def test_a_child_rounds_down_and_says_what_was_wanted(pool: DecodePool, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(num_frames=13))
    asked = Sampling(num_frames=20, even_above=8)
    with pool.decode(path, asked, [SIZE], 8).result() as frames:
        assert (frames.num_frames, frames.num_wanted) == (12, 13)
        assert frames.indices == decode(path, Sampling(num_frames=12), SIZE, 8).indices
    with pool.thumbnails(path, asked, SIZE, 8).result() as shown:
        assert (len(shown.jpegs), shown.num_wanted) == (12, 13)


def test_a_child_spreads_a_bounded_rate(pool: DecodePool, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(num_frames=30))
    with pool.decode(path, Sampling(fps=25, max_frames=3), [SIZE], 8).result() as frames:
        assert frames.indices == (5, 15, 25)
