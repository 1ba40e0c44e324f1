"""With decord chosen, every frame is the one that PyAV shows for its index, whoever read it."""

import random
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest

from bt_model.types import Frames, FrameSize, ReaderName, Sampling
from bt_model.video.decode import decode
from tests.clips import GREY_STEP, ClipSpec, corners_of, numbers_in, write_clip
from tests.field import field_file

SQUASH = FrameSize(64, "squash")
FINE = {"qmin": "1", "qmax": "2", "b": "9M"}
CLOSED = {
    "h264": ClipSpec(options={"crf": "10", "g": "9", "bf": "0"}),
    "h264 b": ClipSpec(options={"crf": "10", "g": "9", "bf": "3", "x264-params": "b-pyramid=strict"}),
    "h264 short": ClipSpec(options={"crf": "10", "g": "2", "bf": "1"}),
    "h264 intra": ClipSpec(options={"crf": "10", "g": "1"}),
    "h264 one group": ClipSpec(options={"crf": "10", "g": "999", "bf": "8"}),
    "hevc": ClipSpec(
        codec="libx265", options={"x265-params": "log-level=none:crf=10:keyint=9:open-gop=0:bframes=3"}
    ),
    "mpeg4": ClipSpec(codec="mpeg4", options={"g": "7", **FINE}),
    "mpeg2": ClipSpec(
        codec="mpeg2video",
        options={"g": "7", "bf": "2", "flags": "+cgop", "sc_threshold": "1000000000", **FINE},
    ),
}
OPEN = {
    "h264 open": ClipSpec(options={"crf": "10", "g": "9", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    "hevc open": ClipSpec(
        codec="libx265", options={"x265-params": "log-level=none:crf=10:keyint=9:open-gop=1:bframes=3"}
    ),
    "mpeg2 open": ClipSpec(codec="mpeg2video", options={"g": "7", "bf": "2", **FINE}),
    "mpeg4 b": ClipSpec(codec="mpeg4", options={"g": "7", "bf": "2", **FINE}),
}
VP9 = ClipSpec(codec="libvpx-vp9", options={"g": "9", "b": "2M", "lag-in-frames": "16"})
ONLY_DELIMITER = bytes.fromhex("00000003 460150")  # of an HEVC picture, which does not follow
STAMPS = [*accumulate(random.Random(3).choice([20, 33, 40, 90, 400]) for _ in range(30))]


def check(clip: Path) -> set[str]:
    """Compare decord's frames with PyAV's, however they are chosen; who read them."""
    readers: set[str] = set()
    for seed in range(4):
        sampling = Sampling(num_frames=5 + 3 * seed, strategy="random" if seed else "uniform", seed=seed)
        by_pyav, by_decord = (read(clip, sampling, reader) for reader in ("pyav", "decord"))
        assert by_decord.indices == by_pyav.indices
        corners = np.abs(by_decord.pixels.astype(int) - by_pyav.pixels)[:, 40:56, 40:56]
        assert corners.mean(axis=(1, 2, 3)).max() < GREY_STEP / 2
        readers.add(by_decord.reader)
    return readers


def read(clip: Path, sampling: Sampling, reader: ReaderName) -> Frames:
    return decode(clip, sampling, SQUASH, 8, reader)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("kind", CLOSED)
def test_decord_reads_groups_that_need_no_other(tmp_path: Path, kind: str, suffix: str) -> None:
    clip = write_clip(tmp_path / f"a.{suffix}", CLOSED[kind])
    assert check(clip) == {"decord"}
    every = read(clip, Sampling(fps=240), "decord")
    assert numbers_in(every.pixels) == list(every.indices) == list(range(30))


@pytest.mark.parametrize(
    ("name", "spec", "options"),
    [
        ("variable.mp4", replace(CLOSED["h264 b"], stamps_ms=STAMPS), {}),
        ("variable.mkv", replace(CLOSED["h264 b"], stamps_ms=STAMPS), {}),
        ("variable.webm", replace(VP9, stamps_ms=STAMPS), {}),
        ("fragments.mp4", CLOSED["h264 b"], {"movflags": "frag_keyframe+empty_moov"}),
        ("no_edit_list.mp4", CLOSED["h264 b"], {"use_editlist": "0"}),
        ("early.mp4", CLOSED["h264 b"], {"movflags": "negative_cts_offsets"}),
        ("a.webm", VP9, {}),
        ("full_range.webm", replace(VP9, options={**VP9.options, "color_range": "pc"}), {}),
        ("a.flv", CLOSED["h264 b"], {}),
        ("ten_bits.mkv", replace(CLOSED["h264"], pix_fmt="yuv420p10le"), {}),
        ("lossless.mkv", ClipSpec(codec="ffv1", options={"g": "4"}), {}),
        ("a.mov", ClipSpec(codec="mjpeg", pix_fmt="yuvj420p", options=FINE), {}),
        ("tagged.mov", ClipSpec(codec="mpeg4", options={"colorspace": "bt709", **FINE}), {}),
    ],
)
def test_decord_reads_them_from_any_container(
    tmp_path: Path, name: str, spec: ClipSpec, options: dict[str, str]
) -> None:
    assert check(write_clip(tmp_path / name, spec, options)) == {"decord"}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("kind", OPEN)
def test_pyav_reads_a_group_that_needs_the_one_before(tmp_path: Path, kind: str, suffix: str) -> None:
    clip = write_clip(tmp_path / f"a.{suffix}", OPEN[kind])
    assert "pyav" in check(clip)
    every = read(clip, Sampling(fps=240), "decord")
    assert (numbers_in(every.pixels), every.reader) == ([*range(30)], "pyav")


@pytest.mark.parametrize("kind", [*CLOSED, "h264 open", "mpeg4 b"])
def test_pyav_reads_an_avi_whose_frames_have_no_stamps(tmp_path: Path, kind: str) -> None:
    if kind.startswith("hevc"):
        pytest.skip("no encoder writes it into an AVI")
    assert check(write_clip(tmp_path / "a.avi", (CLOSED | OPEN)[kind])) == {"pyav"}


def test_the_numbered_avi_shows_its_numbers() -> None:
    path = field_file("numbered_mpeg4_b.avi")
    frames = decode(path, Sampling(num_frames=16), FrameSize(64, "whole"), 8, "decord")
    cells = frames.pixels[:, 16::32, 12::24].mean(axis=-1) > 128  # (T, 2, 4), the lowest bit first
    assert [int(bits @ 2 ** np.arange(8)) for bits in cells.reshape(16, 8)] == list(frames.indices)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_pyav_reads_what_decord_has_no_decoder_for(tmp_path: Path, suffix: str) -> None:
    clip = write_clip(tmp_path / f"a.{suffix}", ClipSpec(codec="libsvtav1", options={"g": "9"}))
    assert check(clip) == {"pyav"}


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("fit", ["crop", "pad", "whole"])
def test_decord_shows_turned_video_as_pyav_does(tmp_path: Path, degrees: int, fit: str) -> None:
    clip = write_clip(tmp_path / "a.mp4", replace(CLOSED["h264 b"], rotation=degrees))
    size = FrameSize(64, fit)  # pyright: ignore[reportArgumentType] - all of them are
    by_pyav, by_decord = (decode(clip, Sampling(num_frames=3), size, 8, r) for r in ("pyav", "decord"))
    assert by_decord.reader == "decord"
    assert by_decord.pixels.shape == by_pyav.pixels.shape
    assert [corners_of(frame) for frame in by_decord.pixels] == [
        corners_of(frame) for frame in by_pyav.pixels
    ]


@pytest.mark.parametrize("kind", ["hevc open", "mpeg4 b", "mpeg2 open"])
@pytest.mark.parametrize("ahead", [2, 3])
def test_decord_reads_frames_behind_the_key_frame_of_an_open_group(
    tmp_path: Path, kind: str, ahead: int
) -> None:
    clip = write_clip(tmp_path / "a.mkv", OPEN[kind])
    with av.open(str(clip)) as stored:
        keys = [packet.pts for packet in stored.demux(video=0) if packet.is_keyframe and packet.pts]
    seconds = keys[0] / 1000 + ahead / 25
    shown = read(clip, Sampling(num_frames=1, start=seconds - 0.01, end=seconds + 0.01), "decord")
    assert (numbers_in(shown.pixels), shown.reader) == ([round(seconds * 25)], "decord")


@pytest.mark.parametrize("size", [FrameSize(16, "squash"), FrameSize(48, "squash"), FrameSize(32, "whole")])
def test_rows_that_decord_pads_are_cut(tmp_path: Path, size: FrameSize) -> None:
    clip = write_clip(tmp_path / "a.mp4", CLOSED["h264"])
    by_pyav, by_decord = (decode(clip, Sampling(num_frames=3), size, 8, r) for r in ("pyav", "decord"))
    assert by_decord.reader == "decord"
    assert by_decord.pixels.shape == by_pyav.pixels.shape
    assert [corners_of(frame) for frame in by_decord.pixels] == ["RGB-"] * 3


@pytest.mark.parametrize("damage", ["gone", "rubbish", "half"])
@pytest.mark.parametrize("kind", ["h264", "h264 b", "hevc", "mpeg4"])
def test_pyav_reads_groups_in_which_packets_are_damaged(tmp_path: Path, kind: str, damage: str) -> None:
    clip = write_clip(tmp_path / "whole.mkv", CLOSED[kind])
    readers = check(write_damaged_copy(clip, tmp_path / "damaged.mkv", damage))
    assert "pyav" in readers or damage == "gone"  # what depends on it looks the same in both


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi"])
@pytest.mark.parametrize("share", [0.7, 0.8, 0.9])
def test_a_file_with_a_broken_end_is_read(tmp_path: Path, suffix: str, share: float) -> None:
    data = write_clip(tmp_path / f"whole.{suffix}", CLOSED["h264"]).read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: int(len(data) * share)])
    check(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("group", [9, 14, 30])
def test_a_packet_without_a_picture_is_noticed(tmp_path: Path, group: int) -> None:
    options = {"x265-params": f"log-level=none:crf=10:keyint={group}:min-keyint={group}:open-gop=0:bframes=3"}
    source = write_clip(tmp_path / "whole.mkv", ClipSpec(codec="libx265", options=options))
    with av.open(str(source)) as stored, av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream_from_template(stored.streams.video[0])
        packets = [packet for packet in stored.demux(video=0) if packet.size]
        unused = next(
            i for i, packet in enumerate(packets) if not bytes(packet)[4] >> 1
        )  # by no other picture
        for i, packet in enumerate(packets):
            kept = av.Packet(ONLY_DELIMITER) if i == unused else packet
            kept.pts, kept.dts, kept.time_base, kept.stream = packet.pts, packet.dts, packet.time_base, stream
            output.mux(kept)
    assert "pyav" in check(tmp_path / "a.mkv")


def write_damaged_copy(source: Path, path: Path, damage: str) -> Path:
    """Every group loses a packet in its middle, of what it holds or as a whole."""
    with av.open(str(source)) as stored, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(stored.streams.video[0])
        place = 0
        for packet in stored.demux(video=0):
            place = 0 if packet.is_keyframe else place + 1
            if not packet.size or (damage == "gone" and place == 3):
                continue
            data, kept = bytes(packet), packet
            if place == 3:
                half = data[: len(data) // 2] + bytes(len(data) // 2)
                kept = av.Packet({"rubbish": b"\xff" * 40, "half": half}.get(damage, ONLY_DELIMITER))
            pts, dts, time_base = packet.pts, packet.dts, packet.time_base
            kept.pts, kept.dts, kept.time_base, kept.stream = pts, dts, time_base, stream
            output.mux(kept)
    return path
