"""Reading just what the wanted frames need gives, to the bit, what reading every packet gives."""

import io
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import av
import numpy as np
import pytest
from av.error import FFmpegError
from numpy.typing import NDArray

from bt_model.errors import UnsupportedMediaError
from bt_model.types import FrameSize, Sampling
from bt_model.video.attempt import Attempt
from bt_model.video.decode import decode
from bt_model.video.frame import ready
from bt_model.video.needed import LostError, needed_frames
from bt_model.video.opening import opened_video, packets_of
from bt_model.video.packets import Clip
from bt_model.video.pyav_reader import all_frames, read, scan
from bt_model.video.refusals import DecodeLimits
from bt_model.video.sniff import sniff
from bt_model.video.square import Squarer
from tests.clips import MAX_NUMBERED, ClipSpec, numbers_in, write_clip

LIMITS = DecodeLimits()
SIZE = FrameSize(64)
N = 96
REFRESHED = "mp4 h264, refreshed in columns"
GROUPS = {"g": "24", "crf": "20"}
PYRAMID = {"g": "32", "bf": "7", "x264-params": "b-adapt=0:b-pyramid=strict:scenecut=0"}
OPEN = {"g": "16", "x264-params": "open-gop=1:scenecut=0:bframes=3:b-adapt=0"}
HEVC = "log-level=none:keyint=24:min-keyint=24:scenecut=0"
LAYERED = f"{HEVC}:temporal-layers=3:bframes=7:b-adapt=0"
OPEN_HEVC = f"{HEVC}:open-gop=1:bframes=4:b-adapt=0"
BIDIRECTIONAL = {"g": "12", "bf": "2", "b": "2M"}
COLUMNS = {"g": "24", "x264-params": "intra-refresh=1:bframes=2"}
INTERLACED = {"flags": "+ildct+ilme"}
UNEVEN_MS = [40 * i + 7 * (i % 3) + 200 * (i // 30) for i in range(N)]

# file, how it is written, and how its container is
CELLS: Mapping[str, tuple[str, ClipSpec, dict[str, str]]] = {
    "mp4 h264": ("a.mp4", ClipSpec(N, options=GROUPS), {}),
    "mp4 h264, hierarchical": ("a.mp4", ClipSpec(N, options=PYRAMID), {}),
    "mp4 h264, two fields": ("a.mp4", ClipSpec(N, options=GROUPS | INTERLACED), {}),
    REFRESHED: ("a.mp4", ClipSpec(N, options=COLUMNS), {}),
    "mp4 h264, uneven": ("a.mp4", ClipSpec(N, options=GROUPS, stamps_ms=UNEVEN_MS), {}),
    "mp4 h264, in fragments": (
        "a.mp4",
        ClipSpec(N, options=GROUPS),
        {"movflags": "frag_keyframe+empty_moov"},
    ),
    "mp4 h264, in fragments without times": (
        "a.mp4",
        ClipSpec(N, options=GROUPS),
        {"movflags": "frag_keyframe+empty_moov+omit_tfhd_offset", "frag_duration": "300000"},
    ),
    "mov h264, no edit list": ("a.mov", ClipSpec(N, options=GROUPS), {"use_editlist": "0"}),
    "mp4 hevc": ("a.mp4", ClipSpec(N, codec="libx265", options={"x265-params": HEVC}), {}),
    "mp4 hevc, layers": ("a.mp4", ClipSpec(N, codec="libx265", options={"x265-params": LAYERED}), {}),
    "mkv hevc, open": ("a.mkv", ClipSpec(N, codec="libx265", options={"x265-params": OPEN_HEVC}), {}),
    "mp4 mpeg4": ("a.mp4", ClipSpec(N, codec="mpeg4", options=BIDIRECTIONAL), {}),
    "mp4 av1": ("a.mp4", ClipSpec(N, codec="libsvtav1", options={"g": "24", "preset": "8", "crf": "5"}), {}),
    "mkv h264, open": ("a.mkv", ClipSpec(N, options=OPEN), {}),
    "mkv h264, live": ("a.mkv", ClipSpec(N, options=GROUPS), {"live": "1"}),
    "mkv mpeg2": ("a.mkv", ClipSpec(N, codec="mpeg2video", options=BIDIRECTIONAL), {}),
    "mkv ffv1": ("a.mkv", ClipSpec(N, codec="ffv1", options={"g": "8"}), {}),
    "webm vp8": ("a.webm", ClipSpec(N, codec="libvpx", options={"g": "24", "cpu-used": "8"}), {}),
    "webm vp9": (
        "a.webm",
        ClipSpec(N, codec="libvpx-vp9", options={"g": "24", "cpu-used": "8", "lag-in-frames": "16"}),
        {},
    ),
    "mov prores": ("a.mov", ClipSpec(N, codec="prores_ks", pix_fmt="yuv422p10le", options={}), {}),
    "ts h264": ("a.ts", ClipSpec(N, options=GROUPS), {}),
    "ts h264, open": ("a.ts", ClipSpec(N, options=OPEN), {}),
    "ts hevc": ("a.ts", ClipSpec(N, codec="libx265", options={"x265-params": HEVC}), {}),
    "m2ts mpeg2": (
        "a.m2ts",
        ClipSpec(N, codec="mpeg2video", options=BIDIRECTIONAL | INTERLACED),
        {"mpegts_m2ts_mode": "1"},
    ),
    "mpg mpeg2": ("a.mpg", ClipSpec(N, codec="mpeg2video", options=BIDIRECTIONAL), {}),
    "mpg mpeg1": ("a.mpg", ClipSpec(N, codec="mpeg1video", options=BIDIRECTIONAL), {}),
    "flv h264": ("a.flv", ClipSpec(N, options=GROUPS), {}),
    "flv flv1": ("a.flv", ClipSpec(N, codec="flv", options={"g": "12"}), {}),
    "avi mpeg4": ("a.avi", ClipSpec(N, codec="mpeg4", options=BIDIRECTIONAL), {}),
    "avi mjpeg": ("a.avi", ClipSpec(N, codec="mjpeg", pix_fmt="yuvj420p", options={}), {}),
    "avi h264, empty slots": (
        "a.avi",
        ClipSpec(N, options=GROUPS | {"bf": "0"}, slots=[i + i // 9 for i in range(N)]),
        {},
    ),
    "wmv wmv2": ("a.wmv", ClipSpec(N, codec="wmv2", options={"g": "12"}), {}),
    "gif": ("a.gif", ClipSpec(N, codec="gif", pix_fmt="rgb8", options={}), {}),
}
Found = dict[int, NDArray[np.uint8]]


class CountingFile(io.BytesIO):
    """A file that knows how many bytes were read of it."""

    num_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.num_read += len(data)
        return data


def scanned(file: BinaryIO) -> Clip:
    return scan(file, sniff(file), LIMITS)


def slowly(file: BinaryIO, clip: Clip, indices: Sequence[int]) -> Found:
    """By index: decode every packet from the first to the last that is needed, without a seek."""
    square = Squarer(clip, SIZE)
    left = {clip.label(i): i for i in indices}
    found: Found = {}
    with opened_video(file, clip.container, LIMITS) as (opened, stream):
        for label, frame in all_frames(opened, stream, clip, indices):
            if label in left:
                found[left.pop(label)] = square(ready(frame, clip))
    return found


def assert_same(found: Found, expected: Found) -> None:
    assert found.keys() == expected.keys()
    for i, pixels in found.items():
        assert np.array_equal(pixels, expected[i]), f"frame {i}"


def written(folder: Path, name: str) -> Path:
    file_name, spec, options = CELLS[name]
    try:
        return write_clip(folder / file_name, spec, options)
    except FFmpegError as error:
        pytest.skip(f"no encoder: {error}")


def without_packets(path: Path, lost: Sequence[int]) -> Path:
    """The same file, of which some packets are lost."""
    left = path.with_name(f"left{path.suffix}")
    with av.open(str(path)) as read_from, av.open(str(left), "w") as output:
        stream = output.add_stream_from_template(read_from.streams.video[0])
        for number, packet in enumerate(p for p in read_from.demux(video=0) if p.size):
            if number not in lost:
                packet.stream = stream
                output.mux(packet)
    return left


@pytest.mark.parametrize("name", CELLS)
def test_any_frames_are_those_of_a_whole_decode(tmp_path: Path, name: str) -> None:
    file = io.BytesIO(written(tmp_path, name).read_bytes())
    clip = scanned(file)
    expected = slowly(file, clip, range(N))
    numbers = [i % MAX_NUMBERED for i in range(N)]
    assert name == "gif" or numbers_in(np.stack([*expected.values()])) == numbers
    random = Random(name)
    for count in (1, 1, 2, 3, 8, 30):
        indices = sorted(random.sample(range(N), count))
        (found,) = read(file, clip, indices, (SIZE,), LIMITS, Attempt())
        if name == REFRESHED:  # frames that begin before the picture is whole are left out
            indices = [*found]
        assert_same(found, {i: expected[i] for i in indices})


def test_a_picture_that_is_refreshed_in_columns_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path, REFRESHED)
    for number in (5, 30, 63, 95):
        frames = decode(path, Sampling(num_frames=1, start=number / 25, end=(number + 1) / 25), SIZE, 1)
        assert (frames.indices, numbers_in(frames.pixels)) == ((number,), [number % MAX_NUMBERED])


@pytest.mark.parametrize("share", [0.4, 0.75, 0.98])
@pytest.mark.parametrize(
    "name", ["mkv h264, open", "mkv mpeg2", "webm vp9", "ts h264", "ts hevc", "mpg mpeg2", "flv h264"]
)
def test_a_cut_file_gives_the_same_as_reading_all_of_it(tmp_path: Path, name: str, share: float) -> None:
    data = written(tmp_path, name).read_bytes()
    file = io.BytesIO(data[: int(share * len(data))])
    clip = scanned(file)
    for count in (1, 4, 12):
        indices = sorted(Random(count).sample(range(len(clip.times)), count))
        (found,) = read(file, clip, indices, (SIZE,), LIMITS, Attempt())
        assert_same(found, slowly(file, clip, indices))


@pytest.mark.parametrize("name", ["mkv h264, open", "ts h264", "mp4 h264, hierarchical", "mkv hevc, open"])
def test_where_packets_are_lost_the_decoder_fills_the_gap_as_ever(tmp_path: Path, name: str) -> None:
    whole = written(tmp_path, name)
    for lost in ((5,), (17, 18, 19), (33, 50), (1, 30, 31, 60, 77)):
        file = io.BytesIO(without_packets(whole, lost).read_bytes())
        clip = scanned(file)
        for count in (1, 3, 9):
            indices = sorted(Random(count).sample(range(len(clip.times)), count))
            (found,) = read(file, clip, indices, (SIZE,), LIMITS, Attempt())
            assert_same(found, slowly(file, clip, indices))


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.ts", "a.flv"])
def test_the_bytes_before_a_wanted_frame_are_not_read(tmp_path: Path, name: str) -> None:
    filled = {"g": "24", "b": "4M", "maxrate": "4M", "bufsize": "1M", "x264-params": "nal-hrd=cbr"}
    path = write_clip(tmp_path / name, ClipSpec(6 * N, options=filled))
    file = CountingFile(path.read_bytes())
    clip = scanned(file)
    file.num_read = 0
    (found,) = read(file, clip, [6 * N - 20], (SIZE,), LIMITS, Attempt())
    assert len(found) == 1
    assert file.num_read < path.stat().st_size / 2


@pytest.mark.parametrize("name", ["mp4 h264", "mp4 h264, hierarchical", "mp4 hevc", "mp4 mpeg4", "ts hevc"])
def test_frames_without_references_are_not_decoded(tmp_path: Path, name: str) -> None:
    file, clip = opened_clip(written(tmp_path, name))
    wanted = [clip.keys[-1] - 1]
    assert num_decoded(file, clip, wanted) < 0.75 * num_slowly(file, clip, wanted)


@pytest.mark.parametrize("name", ["mp4 h264, two fields", "mp4 hevc, layers", "webm vp9", "mp4 av1"])
def test_no_frame_is_left_out_where_others_may_refer_to_it(tmp_path: Path, name: str) -> None:
    file, clip = opened_clip(written(tmp_path, name))
    wanted = [clip.keys[-1] - 1]
    assert num_decoded(file, clip, wanted) == num_slowly(file, clip, wanted)


@pytest.mark.parametrize("place", [0, 2])
def test_a_packet_that_is_not_in_the_table_is_noticed(tmp_path: Path, place: int) -> None:
    file, clip = opened_clip(written(tmp_path, "mp4 h264"))
    (run,) = clip.runs([60])
    stamps = [*clip.pts]
    stamps[run[place]] = -1
    with pytest.raises(LostError):
        num_decoded(file, replace(clip, pts=stamps), [60])
    (found,) = read(file, replace(clip, pts=stamps), [60], (SIZE,), LIMITS, Attempt())
    assert_same(found, slowly(file, clip, [60]))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("mp4 h264", b"\x01\x64"), ("mp4 hevc", b"\x40\x01\x0c")],
)
def test_parameters_that_are_cut_off_leave_it_to_the_slow_twin(
    tmp_path: Path, name: str, parameters: bytes
) -> None:
    file, clip = opened_clip(written(tmp_path, name))
    with opened_video(file, clip.container, LIMITS, is_known=True) as (opened, stream):
        stream.codec_context.extradata = parameters
        with pytest.raises(LostError):
            deque(needed_frames(opened, stream, clip, [60]))


def test_another_codec_than_that_of_the_table_is_noticed(tmp_path: Path) -> None:
    file, clip = opened_clip(written(tmp_path, "mp4 h264"))
    with pytest.raises(LostError):
        num_decoded(file, replace(clip, codec="hevc"), [60])


@pytest.mark.parametrize("is_known", [False, True])
def test_no_other_codec_than_those_of_the_list_is_opened(tmp_path: Path, is_known: bool) -> None:
    path = write_clip(tmp_path / "a.avi", ClipSpec(codec="huffyuv", pix_fmt="yuv422p", options={}))
    opening = opened_video(io.BytesIO(path.read_bytes()), "avi", LIMITS, is_known=is_known)
    with pytest.raises(UnsupportedMediaError, match="huffyuv"), opening:
        pass


def test_a_track_that_begins_in_mid_stream_ends_nothing_early() -> None:
    """PyAV then raises behind the last packet, but only where the memory there is not zero."""
    packet = av.Packet(b"x")
    ending = SimpleNamespace(
        format=SimpleNamespace(name="mpegts"), demux=lambda _: ended_by_new_track(packet)
    )
    assert [*packets_of(cast("Any", ending), cast("Any", None))] == [packet]


def ended_by_new_track(packet: object) -> Iterator[object]:
    yield packet
    raise IndexError("list index out of range")


def opened_clip(path: Path) -> tuple[BinaryIO, Clip]:
    file = io.BytesIO(path.read_bytes())
    return file, scanned(file)


def num_decoded(file: BinaryIO, clip: Clip, indices: Sequence[int]) -> int:
    with opened_video(file, clip.container, LIMITS, is_known=True) as (opened, stream):
        return sum(1 for _ in needed_frames(opened, stream, clip, indices))


def num_slowly(file: BinaryIO, clip: Clip, indices: Sequence[int]) -> int:
    with opened_video(file, clip.container, LIMITS) as (opened, stream):
        return sum(1 for _ in all_frames(opened, stream, clip, indices))
