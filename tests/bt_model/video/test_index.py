"""The index of a scanned file: it comes back to the bit, and what is wrong with it is noticed."""

import io
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest
from PIL import Image

from bt_model.types import FrameSize, Sampling
from bt_model.video import decode, index
from bt_model.video.packets import Clip
from bt_model.video.refusals import DecodeLimits
from tests.bt_model.video.test_formats import CLIPS, animated, written
from tests.clips import ClipSpec, picture, write_clip, write_cut, write_damaged

LIMITS = DecodeLimits()
MJPEG = ClipSpec(codec="mjpeg", pix_fmt="yuvj420p")
FFV1 = ClipSpec(12, codec="ffv1")
JITTER = [40 * i + (7 * i * i) % 23 for i in range(30)]
FILES: dict[str, Callable[[Path], Path]] = {
    "a.mp4": write_clip,
    "late.mp4": lambda path: write_clip(path, ClipSpec(audio=True, options={"crf": "10", "bf": "2"})),
    "turned.mov": lambda path: write_clip(path, ClipSpec(rotation=90)),
    "jitter.mkv": lambda path: write_clip(path, ClipSpec(stamps_ms=JITTER)),
    "jitter.webm": lambda path: write_clip(path, ClipSpec(codec="libvpx-vp9", stamps_ms=JITTER)),
    "ntsc.mkv": lambda path: write_clip(path, ClipSpec(fps=30)),
    "slots.avi": lambda path: write_clip(path, replace(FFV1, slots=[0, 1, 4, *range(6, 15)])),
    "empty_first.avi": lambda path: write_clip(path, replace(FFV1, slots=[*range(3, 15)])),
    "cut.mp4": lambda path: write_cut(path, 0.6, MJPEG, index_first=True),
    "a.gif": lambda path: animated(path, [40, 70, 200, 30]),
    "a.webp": lambda path: animated(path, [33, 57, 201, 30]),
    "a.jpg": lambda path: Image.fromarray(picture(3)).save(path) or path,
}


def packed(path: Path) -> tuple[Clip, bytes]:
    with path.open("rb") as file:
        clip = decode.scan(file)
        return clip, index.pack(clip, file)


def unpacked(data: bytes, path: Path, limits: DecodeLimits = LIMITS) -> Clip | None:
    with path.open("rb") as file:
        return index.unpack(data, file, limits)


def is_the_same(clip: Clip | None, other: Clip) -> bool:
    """Also the kinds of all numbers, which facts must have."""
    return clip == other and repr(clip) == repr(other)


@pytest.mark.parametrize("name", [*FILES, *CLIPS])
def test_what_was_scanned_comes_back_to_the_bit(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name) if name in CLIPS else FILES[name](tmp_path / name)
    clip, data = packed(path)
    assert is_the_same(unpacked(data, path), clip)
    assert len(data) < 1500


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_what_decoding_found_out_comes_back_too(tmp_path: Path, suffix: str) -> None:
    path = write_damaged(tmp_path / f"a.{suffix}")
    with path.open("rb") as file:
        wanted = decode.Wanted(Sampling(fps=240), [FrameSize(32)], 8)
        found, _ = decode.decode_clip(file, decode.scan(file), wanted)
        data = index.pack(found, file)
    assert (len(found.times), found.is_counted, found.labels is None) == (20, True, suffix == "avi")
    assert is_the_same(unpacked(data, path), found)


def shuffled(clip: Clip, num_frames: int) -> Clip:
    """Frames of a phone's clock with B-frames, some packets hidden, without a timestamp or before a key."""
    draws = random.Random(num_frames)
    stamps = sorted({round(3000 * i + draws.gauss(0, 400)) for i in range(num_frames)})
    stored = [stamps[i + (i % 3 != 0) * (3 - 2 * (i % 3))] for i in range(len(stamps) // 3 * 3)]
    labels = sorted(stored)[2:]
    times = [0.25 + (stamp - labels[0]) * 1 / 90_000 for stamp in labels]
    keys = [*range(0, len(stored), 250)]
    return replace(clip, times=times, seconds=times[-1] + 0.1, labels=labels, pts=stored, keys=keys)


def test_two_hours_of_uneven_frames_take_less_than_half_a_megabyte(tmp_path: Path) -> None:
    clip = shuffled(packed(write_clip(tmp_path / "a.mp4"))[0], 216_000)
    file = io.BytesIO((tmp_path / "a.mp4").read_bytes())
    data = index.pack(clip, file)
    assert is_the_same(index.unpack(data, file, LIMITS), clip)
    assert len(data) < 500_000


@pytest.mark.parametrize(
    "change",
    [
        {"labels": None},
        {"labels": None, "pts": [None] * 300},
        {"labels": None, "pts": [None, *range(299)], "keys": []},
        {"pts": [-(2**62), *range(3, 299), 2**62, None]},
        {"keys": [*range(300)], "warnings": ("a", "b")},
        {"times": [0.1 * i for i in range(298)], "labels": [2**40 + i * i for i in range(298)]},
        {"times": [0.0] * 298, "labels": None},
        {"times": [5.0], "labels": [7]},
    ],
)
def test_tables_of_every_kind_come_back(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write_clip(tmp_path / "a.mp4")
    clip = replace(shuffled(packed(path)[0], 300), seconds=99.0, **change)
    with path.open("rb") as file:
        assert is_the_same(unpacked(index.pack(clip, file), path), clip)


def test_an_index_is_of_one_file_and_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4")
    clip, data = packed(path)
    content = path.read_bytes()
    for other in (content + b"\0", content[:-1], content[:40] + b"\1" + content[41:]):
        assert index.unpack(data, io.BytesIO(other), LIMITS) is None
    file = io.BytesIO(content)
    assert is_the_same(index.unpack(data, file, LIMITS), clip)
    monkeypatch.setattr(index, "_MADE_BY", (1, "another"))
    assert index.unpack(data, file, LIMITS) is None


def remade(data: bytes, change: Callable[[list[Any], list[Any]], object]) -> bytes:
    """The same index with something else in it."""
    origin, about, columns = cast(list[Any], msgpack.unpackb(data))
    change(about, columns)
    return cast(bytes, msgpack.packb([origin, about, columns]))


ABOUT = {
    "container": (0, ["mkv", "avi", 4, None, ["mp4"]]),
    "codec": (1, [7, "x" * 501, None]),
    "width": (2, [0, -96, 96.0, "96", True, 2**40]),
    "has_audio": (4, [1, None]),
    "header_fps": (5, [0.0, -1.0, float("nan"), float("inf"), 25]),
    "seconds": (6, [0.5, float("nan"), float("inf"), 2]),
    "warnings": (7, [[1], ["x"] * 9, ["x" * 501], "none", None]),
    "orientation": (8, [[0, 0, 0], [False] * 4, "no"]),
    "picture": (9, [["yuv420p"] * 8, []]),
}


@pytest.mark.parametrize("name", ABOUT)
def test_a_header_that_no_scan_writes_is_no_index(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / "a.mp4")
    _, data = packed(path)
    place, values = ABOUT[name]
    for value in values:
        made = remade(data, lambda about, _columns, value=value: about.__setitem__(place, value))
        assert unpacked(made, path) is None, value


@pytest.mark.parametrize("ratio", ["1:0", "0:1", "-1:-1", "1:1:1", "many", "1000000000:1", "1:1000", ""])
def test_a_shape_of_pixels_that_no_scan_finds_is_no_index(tmp_path: Path, ratio: str) -> None:
    path = write_clip(tmp_path / "a.mp4")
    made = remade(packed(path)[1], lambda about, _columns: about[9].__setitem__(1, ratio))
    assert unpacked(made, path) is None


def column(values: list[int]) -> list[object]:
    return [*index._column(values)]  # pyright: ignore[reportPrivateUsage] - as a hostile child would


ALL = [*range(30)]
COLUMNS: dict[str, tuple[int, object]] = {
    "more frames than may be": (0, [10**9, "<i1", column(ALL)[2]]),
    "fewer than it says": (0, [31, "<i1", column(ALL)[2]]),
    "more than it says": (0, [29, "<i1", column(ALL)[2]]),
    "negative": (0, [-1, "<i1", column(ALL)[2]]),
    "of another type": (0, [30, "O", column(ALL)[2]]),
    "no zlib": (0, [30, "<i1", b"rubbish"]),
    "a hole outside": (1, column([30])),
    "keys that go back": (2, column([0, 0])),
    "a key outside": (2, column([0, 30])),
    "a negative key": (2, column([-1, 0])),
    "labels that are equal": (3, [False, column([0] * 30)]),
    "a place before the file": (6, column([-1])),
    "fewer places than keys": (6, column([1, 2])),
    "no labels": (3, [False, column([])]),
    "no clock": (4, [0.0, 1, 0]),
    "a clock of rubbish": (4, ["0", 1, 25]),
    "a clock that goes back": (4, [0.0, -1, 25]),
    "a clock of NaN": (4, [float("nan"), 1, 25]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_that_no_scan_writes_is_no_index(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / "a.mp4")
    place, value = COLUMNS[name]
    made = remade(packed(path)[1], lambda _about, columns: columns.__setitem__(place, value))
    assert unpacked(made, path) is None


def test_labels_of_other_frames_are_no_index(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    for count, is_right in ((30, True), (29, False), (31, False)):
        times = [[False, column([*range(count)])], None, column([0] * 30)]
        made = remade(
            packed(path)[1], lambda _about, columns, times=times: columns.__setitem__(slice(3, 6), times)
        )
        assert (unpacked(made, path) is not None) == is_right


def test_no_frame_is_no_index(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")

    def empty(_about: list[Any], columns: list[Any]) -> None:
        columns[:] = [column([]), column([]), column([]), None, None, column([]), column([])]

    assert unpacked(remade(packed(path)[1], empty), path) is None


@pytest.mark.parametrize(
    "limits",
    [
        DecodeLimits(max_packets=29),
        DecodeLimits(max_seconds=1.0),
        DecodeLimits(max_pixels=96 * 63),
        DecodeLimits(min_side=65),
    ],
)
def test_limits_hold_for_an_index_too(tmp_path: Path, limits: DecodeLimits) -> None:
    path = write_clip(tmp_path / "a.mp4")
    _, data = packed(path)
    assert unpacked(data, path) is not None
    assert unpacked(data, path, limits) is None


def test_bytes_of_any_kind_do_no_harm(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    clip, data = packed(path)
    draws = random.Random(16)
    for _ in range(3000):
        made = bytearray(data)
        for _ in range(draws.choice((1, 1, 2, 8))):
            made[draws.randrange(len(made))] = draws.randrange(256)
        found = unpacked(bytes(made[: draws.choice((len(made), draws.randrange(len(made) + 1)))]), path)
        assert found is None or len(found.times) <= len(clip.times)
