"""What phones, cameras, editors and recorders write, by the server and by the functions: the same values.

Each kind has three files that are drawn here, and the one that was reported where that is at hand.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bt_model.types import MAX_FRAMES, FrameSize, Sampling
from bt_model.video.decode import decode
from tests import fakes
from tests.bt_model.video.test_picture import with_ratio
from tests.cells import CELLS, MUTED, CellSpec, write_cells
from tests.clips import ClipSpec, numbers_in, write_clip, write_tracks
from tests.field import field_file

Pixels = NDArray[np.uint8]
SIZE = fakes.CARD.frame_size
EIGHT = Sampling(num_frames=8)
FINE = {"qmin": "1", "qmax": "2"}
HLG = CellSpec("bt2020nc", "tv", "bt2020", "arib-std-b67", "yuv420p10le")


@dataclass(frozen=True)
class Case:
    """A file, and what is right of it: facts, indices, times and what its pixels tell."""

    write: Callable[[Path], Path]
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    indices: Sequence[int] | None = None
    times: Sequence[float] | None = None
    shows: Callable[[Pixels, Sequence[int]], None] = lambda pixels, indices: None


def reported(name: str, folder: Path) -> Path:
    return field_file(name)


def drawn(name: str, spec: ClipSpec, folder: Path) -> Path:
    return write_clip(folder / name, spec)


def numbers(pixels: Pixels, indices: Sequence[int]) -> None:
    assert numbers_in(pixels) == list(indices)


def bits(pixels: Pixels, indices: Sequence[int]) -> None:
    """Bit b at row b // 4, column b % 4 of 96 x 64, cropped to its middle."""
    side = pixels.shape[1]
    columns = [round(x * side / 64) for x in (4, 20, 44, 60)]
    for frame, index in zip(pixels, indices, strict=True):
        cells = [frame[side // 4 + row * side // 2, x].mean() > 128 for row in (0, 1) for x in columns]
        assert sum(on << bit for bit, on in enumerate(cells)) == index


def cells(colours: Sequence[tuple[int, int, int]], pixels: Pixels, indices: Sequence[int]) -> None:
    """The four in the middle, of 2 : 1 cropped to a square."""
    side = pixels.shape[1]
    for frame in pixels:
        for cell, (row, column) in zip((1, 2, 5, 6), ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
            y, x = side // 4 + row * side // 2, side // 4 + column * side // 2
            seen = frame[y - 1 : y + 1, x - 1 : x + 1].mean(axis=(0, 1))
            assert np.abs(seen - colours[cell]).max() <= 30


def red_then_blue(pixels: Pixels, indices: Sequence[int]) -> None:
    red, blue = pixels.mean(axis=(1, 2))
    assert (red.argmax(), blue.argmax()) == (0, 2)


def two_colours(name: str, codec: str, folder: Path) -> Path:
    with av.open(str(folder / name), "w") as output:
        stream = output.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for colour in ((220, 20, 20), (20, 20, 220)):
            output.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), colour, np.uint8), "rgb24"))
            )
        output.mux(stream.encode(None))
    return folder / name


def gaps(fps: int, slots: Sequence[int], **more: Any) -> Case:
    spec = ClipSpec(len(slots), fps=fps, codec="mpeg4", options=FINE, slots=slots)
    facts = {"seconds": (slots[-1] + 1) / fps, "num_frames": len(slots)}
    times = [slot / fps for slot in slots]
    return Case(partial(drawn, "a.avi", replace(spec, **more)), facts, range(len(slots)), times, numbers)


def stretched(name: str, ratio: Fraction, seen: tuple[int, int]) -> Case:
    def write(folder: Path) -> Path:
        return with_ratio(folder / name, ratio, ClipSpec(width=180, height=240))

    return Case(
        write,
        {
            "width": seen[0],
            "height": seen[1],
            "sample_aspect_ratio": f"{ratio.numerator}:{ratio.denominator}",
        },
    )


def reordered(name: str, codec: str, **options: str) -> Case:
    spec = ClipSpec(30, codec=codec, options={**FINE, **options} if codec == "mpeg4" else options)
    return Case(partial(drawn, name, spec), {"num_frames": 30}, shows=numbers)


def toned(name: str, spec: CellSpec) -> Case:
    facts = {"color_transfer": spec.transfer, "tone_mapped": True}
    return Case(lambda folder: write_cells(folder / name, spec), facts, shows=partial(cells, spec.cells))


def tracks(name: str, num_sounds: int) -> Case:
    def write(folder: Path) -> Path:
        return write_tracks(folder / name, 0, num_videos=1, num_sounds=num_sounds)

    return Case(write, {"num_frames": 1, "has_audio": True}, shows=numbers)


def two_frames(name: str, codec: str) -> Case:
    write = partial(two_colours, name, codec)
    return Case(write, {"num_frames": 2}, indices=(0, 1), times=(0, 0.1), shows=red_then_blue)


RECORDED = [1.4, 5.1, 5.8, 6.5, 7.2, 7.9, 11.9, 16.8]
CASES: dict[str, Case] = {
    "gaps, reported": Case(
        partial(reported, "avi_dropped_slots.avi"),
        {"seconds": 19.7, "num_frames": 57},
        indices=range(3, 53, 7),
        times=RECORDED,
    ),
    "gaps of 10 frames a second": gaps(10, (0, 1, 4, 5, 12, 13, 20, 29)),
    "gaps of 30 frames a second": gaps(30, (0, 30, 31, 90, 91, 92, 299, 300)),
    "gaps where frames are reordered": gaps(
        10, (0, 1, 5, 6, 7, 15, 16, 17), options={**FINE, "bf": "2"}
    ),
    "reordered, reported": Case(
        partial(reported, "numbered_mpeg4_b.avi"),
        {"num_frames": 150},
        shows=bits,
    ),
    "reordered mpeg4": reordered("a.avi", "mpeg4", bf="2", g="12"),
    "reordered mpeg4 in long groups": reordered("a.avi", "mpeg4", bf="4", g="300"),
    "reordered h264": reordered("a.avi", "libx264", bf="3", crf="10"),
    "HLG, reported": Case(
        partial(reported, "hlg_bars.mp4"), {"tone_mapped": True}, shows=partial(cells, CELLS)
    ),
    "HLG": toned("a.mp4", HLG),
    "HLG in full range": toned("a.mkv", replace(HLG, range="pc", cells=MUTED)),
    "PQ": toned("a.mov", replace(HLG, transfer="smpte2084", pix_fmt="yuv422p10le")),
    "nine tracks, reported": Case(
        partial(reported, "nine_tracks.mov"), {"num_frames": 10, "has_audio": True}
    ),
    "nine tracks": tracks("a.mov", 8),
    "thirty tracks": tracks("a.mkv", 29),
    "two hundred tracks": tracks("b.mkv", 199),
    "wide, reported": Case(
        partial(reported, "sar_16_9.mp4"), {"width": 320, "height": 240, "sample_aspect_ratio": "16:9"}
    ),
    "wide MP4": stretched("a.mp4", Fraction(16, 9), (320, 240)),
    "wide Matroska": stretched("a.mkv", Fraction(64, 45), (256, 240)),
    "narrow QuickTime": stretched("a.mov", Fraction(8, 9), (160, 240)),
    "two frames, reported": Case(
        partial(reported, "two_frames_red_blue.mp4"), {"num_frames": 2}, indices=(0, 1), shows=red_then_blue
    ),
    "two frames of H.264": two_frames("a.mp4", "libx264"),
    "two frames of VP9": two_frames("a.webm", "libvpx-vp9"),
    "two frames of MPEG-4": two_frames("a.avi", "mpeg4"),
}  # fmt: skip


def agreed(
    case: Case, facts: dict[str, Any], indices: Sequence[int], times: Sequence[float], pixels: Pixels
) -> None:
    assert {name: facts[name] for name in case.facts} == pytest.approx(case.facts, abs=0.001)
    assert case.indices is None or list(indices) == list(case.indices)
    assert case.times is None or list(times) == pytest.approx(list(case.times), abs=0.001)
    case.shows(pixels, indices)


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_right_by_the_functions(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    path = case.write(tmp_path)
    frames = decode(path, EIGHT, SIZE, 8)
    facts = {each: getattr(frames.facts, each) for each in case.facts}
    agreed(case, facts, frames.indices, frames.timestamps, frames.pixels)
    every = decode(path, Sampling(num_frames=MAX_FRAMES), SIZE, 8)
    case.shows(every.pixels, every.indices)


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_right_over_http(tmp_path: Path, client: httpx.Client, name: str) -> None:
    case = CASES[name]
    uploaded = (
        client.post("/v1/video/uploads", content=case.write(tmp_path).read_bytes()).raise_for_status().json()
    )
    body = {"video": uploaded["id"], "sampling": {"num_frames": EIGHT.num_frames}}
    answer = client.post("/v1/video/frames", json=body).raise_for_status().json()
    assert answer["facts"] == client.get(f"/v1/video/uploads/{uploaded['id']}").json()["facts"]
    frames = answer["frames"]
    pixels = np.stack([pixels_of(each["image"]) for each in frames])
    indices, times = ([each[of] for each in frames] for of in ("index", "timestamp"))
    agreed(case, uploaded["facts"], indices, times, pixels)


def pixels_of(url: str) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


@pytest.mark.parametrize("name", ["wide, reported", "wide MP4", "wide Matroska", "narrow QuickTime"])
def test_frames_have_the_shape_of_the_facts(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    pixels = decode(
        case.write(tmp_path), Sampling(num_frames=1), FrameSize(min(case.facts["width"], 240), "whole"), 1
    ).pixels
    assert pixels.shape[1:3] == (case.facts["height"], case.facts["width"])
