"""Frames and facts have the shape that a player shows, and facts name what the stream says of its pixels."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bt_model.errors import VideoError
from bt_model.types import Frames, FrameSize, ReaderName, Sampling, VideoFacts
from bt_model.video.decode import READER_NAMES, decode, probe
from bt_model.video.facts import Picture
from bt_model.video.picture import stretched
from tests.cells import CellSpec, write_cells
from tests.clips import ClipSpec, corners_of, picture, write_clip
from tests.field import field_file

ONE = Sampling(num_frames=1)
SMALL = ClipSpec()

readers = pytest.mark.parametrize("reader", READER_NAMES)


def with_ratio(path: Path, ratio: Fraction, spec: ClipSpec = SMALL) -> Path:
    """A clip whose codec, and whose container if it can, has this aspect of a pixel."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(spec.codec, rate=spec.fps, options={"crf": "10"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "yuv420p"
        stream.codec_context.sample_aspect_ratio = ratio
        if spec.rotation is not None:
            stream.set_display_rotation(spec.rotation)
        for i in range(2):
            frame = av.VideoFrame.from_ndarray(picture(i, spec.width, spec.height), "rgb24")
            output.mux(stream.encode(frame.reformat(format="yuv420p")))
        output.mux(stream.encode(None))
    return path


def corrected(path: Path, ratio: tuple[int, int]) -> Path:
    """The same MP4 with another ratio in its container only, as editors write it."""
    data = path.read_bytes()
    at = data.index(b"pasp") + 4
    path.write_bytes(data[:at] + b"".join(n.to_bytes(4, "big") for n in ratio) + data[at + 8 :])
    return path


def shape(facts: VideoFacts) -> tuple[int, int]:
    return facts.width, facts.height


@pytest.mark.parametrize(
    ("name", "ratio", "seen"),
    [
        ("wide.mp4", Fraction(16, 9), (171, 64)),
        ("dvd.mkv", Fraction(64, 45), (137, 64)),
        ("hdv.mov", Fraction(4, 3), (128, 64)),
        ("narrow.mp4", Fraction(8, 9), (85, 64)),
        ("square.mkv", Fraction(1), (96, 64)),
        ("scope.avi", Fraction(2), (192, 64)),
    ],
)
def test_the_width_follows_the_ratio_of_a_pixel(
    tmp_path: Path, name: str, ratio: Fraction, seen: tuple[int, int]
) -> None:
    path = with_ratio(tmp_path / name, ratio)
    frames = decode(path, ONE, FrameSize(64, "whole"), 1)
    assert (shape(frames.facts), shape(probe(path))) == (seen, seen)
    assert frames.pixels.shape[1:] == (*reversed(scaled_to(seen, 64)), 3)


def scaled_to(seen: tuple[int, int], side: int) -> tuple[int, int]:
    width, height = (int(length * side / min(seen) + 0.5) for length in seen)
    return width, height


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_a_turned_anamorphic_video_is_stretched_along_its_stored_width(tmp_path: Path, degrees: int) -> None:
    path = with_ratio(tmp_path / "a.mp4", Fraction(2), ClipSpec(rotation=degrees))
    frames = decode(path, ONE, FrameSize(64, "whole"), 1)
    assert shape(frames.facts) == ((192, 64) if degrees == 180 else (64, 192))
    assert frames.pixels.shape[1:3] == tuple(reversed(shape(frames.facts)))
    assert corners_of(frames.pixels[0]) == {90: "G-RB", -90: "BR-G", 180: "-BGR"}[degrees]


@readers
@pytest.mark.parametrize("size", [FrameSize(64), FrameSize(64, "pad"), FrameSize(64, "whole")])
def test_an_anamorphic_clip_gives_the_frames_of_its_square_twin(
    tmp_path: Path, reader: ReaderName, size: FrameSize
) -> None:
    stored = with_ratio(tmp_path / "a.mp4", Fraction(2), ClipSpec(width=96, height=96))
    twin = with_ratio(tmp_path / "b.mp4", Fraction(1), ClipSpec(width=192, height=96))
    first, second = (decode(path, ONE, size, 1, reader).pixels for path in (stored, twin))
    assert np.abs(first.astype(int) - second.astype(int)).mean() < 2


def test_the_containers_ratio_goes_before_the_codecs(tmp_path: Path) -> None:
    path = corrected(with_ratio(tmp_path / "a.mp4", Fraction(4, 3)), (2, 1))
    assert shape(probe(path)) == (192, 64)


@pytest.mark.parametrize("ratio", [(0, 1), (1, 11), (11, 1), (2**31 - 1, 1)])
def test_a_ratio_that_no_picture_has_is_ignored(tmp_path: Path, ratio: tuple[int, int]) -> None:
    facts = probe(corrected(with_ratio(tmp_path / "a.mp4", Fraction(1)), ratio))
    assert (shape(facts), facts.sample_aspect_ratio) == ((96, 64), "1:1")


def test_a_picture_that_is_too_narrow_on_screen_is_refused(tmp_path: Path) -> None:
    path = corrected(with_ratio(tmp_path / "a.mp4", Fraction(1)), (1, 10))
    with pytest.raises(VideoError, match="10 x 64 pixels; at least 16"):
        probe(path)


def test_a_width_is_rounded_to_the_nearest_pixel() -> None:
    widths = [stretched(w, 9, "3:2")[0] for w in (1, 2, 3, 101)]
    assert widths == [2, 3, 5, 152]


def test_the_anamorphic_clip_of_the_field_is_320_by_240() -> None:
    frames = decode(field_file("sar_16_9.mp4"), ONE, FrameSize(240, "whole"), 1)
    assert (shape(frames.facts), frames.pixels.shape[1:3]) == ((320, 240), (240, 320))


HDR10 = CellSpec("bt2020nc", "tv", "bt2020", "smpte2084", "yuv420p10le")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
@pytest.mark.parametrize(
    "spec",
    [
        HDR10,
        replace(HDR10, transfer="arib-std-b67", range="pc"),
        CellSpec("smpte170m", "pc", "bt709", "bt709"),
    ],
)
def test_facts_name_the_colours_as_ffprobe_does(tmp_path: Path, name: str, spec: CellSpec) -> None:
    told = Picture.of(probe(write_cells(tmp_path / name, spec)))
    assert told == Picture(
        spec.pix_fmt.replace("yuv420p", "yuvj420p")
        if spec.range == "pc" and spec.pix_fmt == "yuv420p"
        else spec.pix_fmt,
        "1:1",
        spec.range,
        spec.matrix,
        spec.transfer,
        spec.primaries,
        tone_mapped=spec.transfer in ("arib-std-b67", "smpte2084"),
        deinterlaced=False,
    )


def test_facts_say_where_nothing_is_known_of_colours(tmp_path: Path) -> None:
    told = Picture.of(probe(write_clip(tmp_path / "a.mp4")))
    assert told == Picture("yuv420p", "1:1", *["unknown"] * 4, tone_mapped=False, deinterlaced=False)


def test_decode_and_probe_tell_the_same_picture(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.mp4", HDR10)
    frames: Frames = decode(path, ONE, FrameSize(64), 1)
    assert frames.facts == probe(path)
