"""Frames before they are scaled: the matrix of their colours, one moment, and nothing transparent."""

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from bt_model.types import FrameSize, ReaderName, Sampling
from bt_model.video.decode import READER_NAMES, decode, probe
from bt_model.video.frame import over_white, top_field
from tests.cells import CELLS, CellSpec, colours_in, write_cells

ONE = Sampling(num_frames=1)
PLAIN = CellSpec()
HEIGHT, WIDTH, BAR = 240, 320, 48


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("range_", ["tv", "pc"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le", "yuv422p10le"])
def test_colours_come_out_by_matrix_range_and_depth(
    tmp_path: Path, matrix: str, range_: str, pix_fmt: str
) -> None:
    path = write_cells(tmp_path / "a.mp4", CellSpec(matrix, range_, pix_fmt=pix_fmt))
    error = np.abs(colours_in(decode(path, ONE, FrameSize(128, "whole"), 1).pixels[0]) - CELLS)
    assert error.mean() <= 1
    assert error.max() <= 4


@pytest.mark.parametrize("reader", READER_NAMES)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize(
    ("width", "height", "matrix"),
    [
        (1280, 544, "bt709"),
        (640, 720, "bt709"),
        (1276, 716, "smpte170m"),
        (256, 128, "smpte170m"),
    ],
)
def test_untagged_colours_have_the_matrix_of_their_size(
    tmp_path: Path, reader: ReaderName, name: str, width: int, height: int, matrix: str
) -> None:
    spec = CellSpec("", "tv", "", "", written=matrix, width=width, height=height)
    path = write_cells(tmp_path / name, spec)
    error = np.abs(colours_in(decode(path, ONE, FrameSize(128, "whole"), 1, reader).pixels[0]) - CELLS)
    assert error.mean() <= 1.5


def moment(time: int) -> NDArray[np.uint8]:
    """(H, W, 3): a white bar that moves to the right, on grey."""
    pixels = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    pixels[:, 40 + 10 * time : 40 + 10 * time + BAR] = 235
    return pixels


def write_fields(path: Path, codec: str, options: dict[str, str], pix_fmt: str = "yuv420p") -> Path:
    """Frames of two moments, on every second line each; marked as such by the encoder."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options={"flags": "+ildct+ilme", **options})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for i in range(6):
            woven = moment(2 * i)
            woven[1::2] = moment(2 * i + 1)[1::2]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(woven, "rgb24").reformat(format=pix_fmt)))
        output.mux(stream.encode(None))
    return path


def comb(pixels: NDArray[np.uint8]) -> float:
    """How much lines differ from those above and below."""
    lines = pixels.astype(float)
    return float(np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean())


FIELDS = [
    ("tff.mp4", "libx264", {"crf": "5", "x264-params": "tff=1"}, "yuv420p"),
    ("bff.mkv", "libx264", {"crf": "5", "x264-params": "bff=1"}, "yuv420p"),
    ("deep.mov", "libx264", {"crf": "5", "x264-params": "tff=1"}, "yuv422p10le"),
    ("mpeg4.avi", "mpeg4", {"qmin": "1", "qmax": "2", "top": "1"}, "yuv420p"),
]


@pytest.mark.parametrize("reader", READER_NAMES)
@pytest.mark.parametrize(("name", "codec", "options", "pix_fmt"), FIELDS)
def test_an_interlaced_frame_shows_one_moment(
    tmp_path: Path, reader: ReaderName, name: str, codec: str, options: dict[str, str], pix_fmt: str
) -> None:
    path = write_fields(tmp_path / name, codec, options, pix_fmt)
    frames = decode(path, Sampling(fps=240), FrameSize(HEIGHT, "whole"), 1, reader)
    assert frames.facts.deinterlaced
    assert frames.pixels.shape == (6, HEIGHT, WIDTH, 3)
    assert probe(path) == frames.facts
    for i, pixels in enumerate(frames.pixels):
        assert comb(pixels) < 1  # 4.6 where two moments are woven
        assert np.abs(pixels.astype(int) - moment(2 * i).astype(int)).mean() < 2.5


def test_a_progressive_video_is_not_touched(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.mp4")
    assert not probe(path).deinterlaced


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "rgb24", "gbrp", "yuva444p10le", "nv12"])
def test_a_field_is_every_second_line_of_every_format(pix_fmt: str) -> None:
    woven = np.zeros((66, 32, 3), np.uint8)
    woven[::2] = 200
    shown = top_field(av.VideoFrame.from_ndarray(woven, "rgb24").reformat(format=pix_fmt))
    assert (shown.width, shown.height) == (32, 33)
    luma = shown.reformat(format="gray").to_ndarray()
    assert np.abs(luma.astype(int) - 200).max() <= 3


@pytest.mark.parametrize(
    ("pix_fmt", "deep"),
    [
        ("rgba", False),
        ("argb", False),
        ("yuva420p", False),
        ("gbrap", False),
        ("ya8", False),
        ("yuva444p10le", True),
        ("rgba64le", True),
    ],
)
def test_what_is_transparent_lies_over_white(pix_fmt: str, deep: bool) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., :3] = 100
    pixels[:32, :, 3], pixels[32:, :32, 3], pixels[32:, 32:, 3] = 0, 128, 255
    solid = over_white(av.VideoFrame.from_ndarray(pixels, "rgba").reformat(format=pix_fmt))
    assert solid.format.name == ("rgb48le" if deep else "rgb24")
    seen = solid.reformat(format="rgb24").to_ndarray().astype(int)
    for spot, level in ((seen[8:24, 8:56], 255), (seen[40:56, 8:24], 177), (seen[40:56, 40:56], 100)):
        assert np.abs(spot - level).max() <= 3


def test_a_palette_with_a_transparent_colour_lies_over_white() -> None:
    palette = np.zeros((256, 4), np.uint8)
    palette[1] = (255, 200, 10, 20)  # alpha first
    indices = np.zeros((32, 32), np.uint8)
    indices[:, 16:] = 1
    frame = av.VideoFrame.from_ndarray((indices, palette), "pal8")  # pyright: ignore[reportArgumentType] - as PyAV has palettes
    seen = over_white(frame).to_ndarray()
    assert (seen[0, 0].tolist(), seen[0, 31].tolist()) == ([255, 255, 255], [200, 10, 20])


def test_an_opaque_frame_stays_as_it_is() -> None:
    opaque = av.VideoFrame.from_ndarray(np.full((32, 32, 4), 255, np.uint8), "rgba")
    solid = av.VideoFrame(32, 32, "yuv420p")
    assert over_white(opaque) is opaque
    assert over_white(solid) is solid
