"""Decoding real files: the right frames, at the right times, the right way up, at the right size."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bt_model.errors import InvalidValueError, VideoLimitError
from bt_model.types import Frames, FrameSize, ReaderName, Sampling
from bt_model.video import pyav_reader
from bt_model.video.attempt import Attempt
from bt_model.video.decode import READER_NAMES, decode, decode_sizes, probe
from bt_model.video.packets import Clip
from bt_model.video.refusals import DecodeLimits
from bt_model.video.sniff import sniff
from bt_model.video.square import PAD_COLOUR, padded, scaled_size
from tests.clips import ClipSpec, corners_of, numbers_in, picture, write_clip

SQUASH = FrameSize(64, "squash")
CROP = FrameSize(64, "crop")
PAD = FrameSize(64, "pad")
EVERY = Sampling(fps=240)
SHORT_GROUPS = {"crf": "10", "g": "5", "bf": "2"}
STRICT_GROUPS = {"g": "5", "bf": "0", "sc_threshold": "0"}
# a quarter turn clockwise as phones write it, a mirror image, and half a turn: 16.16 fixed point, then 2.30
ONE, UNIT = 1 << 16, 1 << 30
CLOCKWISE = (0, ONE, 0, -ONE, 0, 0, 0, 0, UNIT)
MIRRORED = (-ONE, 0, 0, 0, ONE, 0, 0, 0, UNIT)
UPSIDE_DOWN = (-ONE, 0, 0, 0, -ONE, 0, 0, 0, UNIT)

readers = pytest.mark.parametrize("reader", READER_NAMES)


def numbered(path: Path, sampling: Sampling = EVERY, reader: ReaderName = "pyav") -> tuple[Frames, list[int]]:
    frames = decode(path, sampling, SQUASH, 8, reader)
    return frames, numbers_in(frames.pixels)


@readers
def test_the_pixels_are_of_the_frames_that_the_indices_name(tmp_path: Path, reader: ReaderName) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(options=SHORT_GROUPS))
    frames, numbers = numbered(path, Sampling(num_frames=7), reader)
    assert numbers == list(frames.indices)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("h264.mp4", ClipSpec(options=SHORT_GROUPS)),
        ("open_groups.mp4", ClipSpec(options={**SHORT_GROUPS, "x264-params": "open-gop=1"})),
        ("h264.mov", ClipSpec()),
        ("h264.mkv", ClipSpec(options=SHORT_GROUPS)),
        ("h264.avi", ClipSpec(options=SHORT_GROUPS)),
        ("mpeg4.avi", ClipSpec(codec="mpeg4", options={"bf": "2", "qmin": "1", "qmax": "2"})),
        (
            "hevc.mp4",
            ClipSpec(codec="libx265", options={"crf": "8", "x265-params": "log-level=none:keyint=8"}),
        ),
        (
            "vp8.webm",
            ClipSpec(codec="libvpx", options={"b": "2M", "auto-alt-ref": "1", "lag-in-frames": "16"}),
        ),
        ("vp9.webm", ClipSpec(codec="libvpx-vp9", options={"b": "2M"})),
        ("ten_bit.mp4", ClipSpec(pix_fmt="yuv420p10le")),
        ("full_chroma.mp4", ClipSpec(pix_fmt="yuv444p")),
        ("odd_size.mp4", ClipSpec(width=97, height=65, pix_fmt="yuv444p")),
        ("sound.mp4", ClipSpec(audio=True)),
        ("one_frame.mp4", ClipSpec(num_frames=1)),
    ],
)
def test_every_frame_of_every_format_comes_out_in_order(tmp_path: Path, name: str, spec: ClipSpec) -> None:
    frames, numbers = numbered(write_clip(tmp_path / name, spec))
    assert numbers == list(range(spec.num_frames))
    assert frames.facts.num_frames == spec.num_frames


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("open_groups", ["0", "1"])
def test_skipping_packets_gives_the_frames_of_decoding_everything(
    tmp_path: Path, suffix: str, open_groups: str
) -> None:
    options = {**SHORT_GROUPS, "x264-params": f"open-gop={open_groups}"}
    path = write_clip(tmp_path / f"a.{suffix}", ClipSpec(num_frames=50, options=options))
    every = decode(path, EVERY, SQUASH, 8).pixels
    clip = scanned(path)
    with path.open("rb") as file:
        for i in range(30):
            few = [i, i + 20]
            (found,) = pyav_reader.read(file, clip, few, [SQUASH], DecodeLimits(), Attempt())
            assert list(found) == few
            np.testing.assert_array_equal(np.stack([found[k] for k in few]), every[few])


def test_frames_far_apart_do_not_decode_what_lies_between(tmp_path: Path) -> None:
    clip = scanned(write_clip(tmp_path / "a.mp4", ClipSpec(num_frames=50, options=STRICT_GROUPS)))
    assert [list(run) for run in clip.runs([1, 32])] == [[0, 1], [30, 31, 32]]


def test_a_frame_shown_before_its_key_packet_needs_the_group_before(tmp_path: Path) -> None:
    clip = scanned(write_clip(tmp_path / "a.mp4", ClipSpec(num_frames=9, options=STRICT_GROUPS)))
    # stored: a key (0), 3 and 1 between, then a key (6) and two frames that are shown before it
    clip = replace(clip, pts=[0, 3, 1, 6, 4, 5, 9], keys=[0, 3, 6], labels=[0, 1, 3, 4, 5, 6, 9])
    assert (clip.runs([3]), clip.runs([5])) == ([range(5)], [range(3, 4)])


def test_groups_that_follow_each_other_are_decoded_in_one_run(tmp_path: Path) -> None:
    clip = scanned(write_clip(tmp_path / "a.mp4", ClipSpec(num_frames=20, options=STRICT_GROUPS)))
    assert clip.runs([4, 9]) == [range(10)]


def scanned(path: Path) -> Clip:
    with path.open("rb") as file:
        return pyav_reader.scan(file, sniff(file), DecodeLimits())


def test_facts_tell_what_was_written(tmp_path: Path) -> None:
    facts = probe(write_clip(tmp_path / "a.mp4", ClipSpec(num_frames=50, audio=True)))
    assert (facts.width, facts.height, facts.num_frames, facts.rotation) == (96, 64, 50, 0)
    assert (facts.codec, facts.container, facts.has_audio) == ("h264", "mp4", True)
    assert (facts.fps, facts.seconds) == (25.0, pytest.approx(2.0))


def test_a_title_in_another_encoding_than_utf_8_is_no_damage(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes().replace(b"Lavf", b"\xc1avf"))
    assert probe(path).num_frames == 30


def test_facts_say_where_there_is_no_sound(tmp_path: Path) -> None:
    assert not probe(write_clip(tmp_path / "a.webm", ClipSpec(codec="libvpx-vp9", options={}))).has_audio


def test_decode_and_probe_agree_on_the_facts(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(matrix=CLOCKWISE))
    assert decode(path, EVERY, SQUASH, 8).facts == probe(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_timestamps_of_a_variable_rate_are_the_real_ones(tmp_path: Path, suffix: str) -> None:
    stamps = list(accumulate(islice(cycle((40, 10, 300)), 20), initial=0))
    path = write_clip(tmp_path / f"a.{suffix}", ClipSpec(num_frames=21, stamps_ms=stamps))
    frames, numbers = numbered(path)
    assert numbers == list(range(21))
    assert frames.timestamps == pytest.approx([ms / 1000 for ms in stamps], abs=1e-3)


def test_a_window_of_a_variable_rate_holds_the_frames_shown_in_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", ClipSpec(num_frames=6, stamps_ms=[0, 40, 80, 5000, 5040, 5080]))
    assert numbered(path, Sampling(fps=240, start=4))[1] == [3, 4, 5]


def test_the_first_frame_is_at_zero_where_stamps_begin_later(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", ClipSpec(num_frames=5, stamps_ms=[7000, 7040, 7080, 7120, 7160]))
    assert numbered(path)[0].timestamps == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


@pytest.mark.parametrize(
    ("matrix", "corners", "rotation"),
    [(None, "RGB-", 0), (CLOCKWISE, "BR-G", 90), (UPSIDE_DOWN, "-BGR", 180), (MIRRORED, "GR-B", 0)],
)
@pytest.mark.parametrize("size", [SQUASH, CROP, PAD])
def test_frames_are_turned_as_the_display_matrix_says(
    tmp_path: Path, matrix: tuple[int, ...] | None, corners: str, rotation: int, size: FrameSize
) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(matrix=matrix))
    frames = decode(path, Sampling(num_frames=1), size, 8)
    assert (corners_of(frames.pixels[0]), frames.facts.rotation) == (corners, rotation)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_both_readers_turn_frames_the_same_way(tmp_path: Path, degrees: int) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(rotation=degrees))
    first, second = (decode(path, Sampling(num_frames=1), CROP, 8, reader) for reader in READER_NAMES)
    assert corners_of(first.pixels[0]) == corners_of(second.pixels[0])


def test_a_turned_video_reports_the_size_that_is_seen(tmp_path: Path) -> None:
    facts = probe(write_clip(tmp_path / "a.mp4", ClipSpec(matrix=CLOCKWISE)))
    assert (facts.width, facts.height) == (64, 96)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx265"), ("webm", "libvpx-vp9")]
)
def test_both_readers_give_the_same_frames(tmp_path: Path, suffix: str, codec: str) -> None:
    # Two scalers of two FFmpeg generations: flat areas differ by rounding, edges by some levels more. One
    # frame off would change the numbered corner, a quarter of the picture, by 7 levels and the mean by 1.75.
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write_clip(tmp_path / f"a.{suffix}", ClipSpec(width=160, height=90, codec=codec, options=options))
    for size in (SQUASH, CROP, PAD):
        first, second = (decode(path, Sampling(num_frames=6), size, 8, reader) for reader in READER_NAMES)
        assert first.indices == second.indices
        difference = np.abs(first.pixels.astype(int) - second.pixels.astype(int))
        assert difference.mean() < 1.2
        np.testing.assert_allclose(first.pixels[:, 48:56, 40:56], second.pixels[:, 48:56, 40:56], atol=3)


@readers
@pytest.mark.parametrize("size", [SQUASH, CROP, PAD])
def test_frames_are_squares_of_the_wanted_side(tmp_path: Path, reader: ReaderName, size: FrameSize) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(width=130, height=50))
    assert decode(path, Sampling(num_frames=3), size, 8, reader).pixels.shape == (3, 64, 64, 3)


@readers
def test_crop_keeps_the_centre(tmp_path: Path, reader: ReaderName) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(width=192, height=64, pix_fmt="yuv444p"))
    frames = decode(path, Sampling(num_frames=1), CROP, 8, reader)
    got, expected = frames.pixels[0], picture(frames.indices[0], 192, 64)[:, 64:128]
    assert np.abs(got.astype(int) - expected.astype(int)).mean() < 3


@readers
@pytest.mark.parametrize("turned", [False, True])
def test_pad_keeps_the_whole_picture_between_bars(tmp_path: Path, reader: ReaderName, turned: bool) -> None:
    matrix = CLOCKWISE if turned else None
    path = write_clip(tmp_path / "a.mp4", ClipSpec(width=192, height=96, pix_fmt="yuv444p", matrix=matrix))
    got = decode(path, Sampling(num_frames=1), PAD, 8, reader).pixels[0]
    got = np.rot90(got) if turned else got
    bars = np.concatenate([got[:15], got[49:]])
    np.testing.assert_allclose(bars, np.broadcast_to(PAD_COLOUR, bars.shape), atol=2)
    assert corners_of(got[16:48]) == "RGB-"


@pytest.mark.parametrize(("height", "width", "bar"), [(2, 5, (1, 2)), (4, 2, (1, 1)), (3, 3, (0, 0))])
def test_an_odd_bar_is_larger_behind(height: int, width: int, bar: tuple[int, int]) -> None:
    square = padded(np.full((height, width, 3), 9, np.uint8))
    along = square.any(axis=-1) & (square[..., 0] == 9)
    lines = along.any(axis=int(height < width)).tolist()
    assert square.shape == (max(height, width), max(height, width), 3)
    assert lines == [False] * bar[0] + [True] * min(height, width) + [False] * bar[1]


@readers
def test_several_sizes_equal_one_after_the_other(tmp_path: Path, reader: ReaderName) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(options=SHORT_GROUPS))
    sizes = (SQUASH, FrameSize(96, "crop"), PAD)
    together = decode_sizes(path, Sampling(num_frames=5), sizes, 8, reader)
    for frames, size in zip(together, sizes, strict=True):
        alone = decode(path, Sampling(num_frames=5), size, 8, reader)
        np.testing.assert_array_equal(frames.pixels, alone.pixels)
        assert (frames.indices, frames.timestamps, frames.facts) == (
            alone.indices,
            alone.timestamps,
            alone.facts,
        )


def test_several_sizes_are_read_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, passes = write_clip(tmp_path / "a.mp4"), list[object]()
    real = pyav_reader.opened_video

    def counted(*given: Any, **named: Any) -> object:
        passes.append(given)
        return real(*given, **named)

    monkeypatch.setattr(pyav_reader, "opened_video", counted)
    decode_sizes(path, Sampling(num_frames=5), (SQUASH, CROP, PAD), 8)
    assert len(passes) == 2  # one for the table


def test_a_strip_whose_square_would_not_fit_in_memory_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(width=400, height=20, num_frames=2))
    limits = DecodeLimits(max_decoded_bytes=3 * 64 * 64 * 8)
    assert decode(path, Sampling(num_frames=2), SQUASH, 8, limits=limits).num_frames == 2
    with pytest.raises(VideoLimitError, match="decoded bytes: 480000"):
        decode(path, Sampling(num_frames=2), PAD, 8, limits=limits)


def test_colours_come_out_as_they_went_in(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(width=64, height=64, pix_fmt="yuv444p"))
    got = decode(path, Sampling(num_frames=1), SQUASH, 8).pixels[0]
    np.testing.assert_allclose(got[8:24, 8:24].mean(axis=(0, 1)), picture(0)[0, 0], atol=4)


def test_an_open_file_stays_open(tmp_path: Path) -> None:
    with write_clip(tmp_path / "a.mp4").open("rb", buffering=0) as file:
        decode(file, EVERY, SQUASH, 8)
        assert not file.closed


def test_repeated_frames_are_given_as_often_as_asked(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(num_frames=3))
    frames, numbers = numbered(path, Sampling(num_frames=9, strategy="middle"))
    assert numbers == list(frames.indices) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("damage", ["drop", "scramble"])
def test_frames_that_do_not_decode_are_sampled_around(
    tmp_path: Path, damage: str, damaged_mkv: Callable[[Path, str], Path]
) -> None:
    frames, numbers = numbered(damaged_mkv(tmp_path, damage), Sampling(num_frames=4))
    assert len(numbers) == 4
    assert frames.facts.num_frames < 30


@pytest.fixture
def damaged_mkv() -> Callable[[Path, str], Path]:
    """Writes a clip of which the second half of the packets is gone or rubbish."""

    def write(folder: Path, damage: str) -> Path:
        import av  # noqa: PLC0415 - only this fixture remuxes

        source = write_clip(folder / "source.mkv", ClipSpec(options={"bf": "0", "crf": "10"}))
        path = folder / "damaged.mkv"
        with av.open(str(source)) as read, av.open(str(path), "w") as output:
            stream = output.add_stream_from_template(read.streams.video[0])
            for i, packet in enumerate(p for p in read.demux(video=0) if p.size):
                stamp, time_base = packet.pts, packet.time_base
                if i >= 15:
                    if damage == "drop":
                        break
                    packet = av.Packet(b"\x00" * 40)  # noqa: PLW2901
                packet.stream, packet.time_base = stream, time_base
                packet.pts = packet.dts = stamp
                output.mux(packet)
        return path

    return write


def test_an_unknown_reader_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="pyav, decord"):
        decode(tmp_path / "none.mp4", EVERY, SQUASH, 8, "opencv")  # pyright: ignore[reportArgumentType] - wrong on purpose


def test_decoding_loads_neither_torch_nor_decord() -> None:
    code = "import sys, bt_model.video.decode; print({'torch', 'decord'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_whole_frames_keep_everything_with_a_shorter_side_of_that_size(
    tmp_path: Path, reader: ReaderName
) -> None:
    clip = write_clip(tmp_path / "a.mp4", ClipSpec(num_frames=9, width=120, height=64))
    whole = decode(clip, Sampling(num_frames=3), FrameSize(32, "whole"), 3, reader).pixels
    assert whole.shape == (3, 32, 60, 3)
    assert [corners_of(frame) for frame in whole] == ["RGB-"] * 3
    middle = decode(clip, Sampling(num_frames=3), FrameSize(32), 3, reader).pixels
    assert np.array_equal(whole[:, :, 14:46], middle)


def test_whole_frames_count_with_all_their_pixels_against_the_limit(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", ClipSpec(num_frames=9, width=128, height=32))
    enough = DecodeLimits(max_decoded_bytes=3 * 3 * 32 * 128)
    assert decode(clip, Sampling(num_frames=3), FrameSize(32, "whole"), 3, limits=enough).num_frames == 3
    less = DecodeLimits(max_decoded_bytes=3 * 3 * 32 * 128 - 1)
    with pytest.raises(VideoLimitError):
        decode(clip, Sampling(num_frames=3), FrameSize(32, "whole"), 3, limits=less)


def test_a_recording_whose_segment_has_no_length_yet_is_read(tmp_path: Path) -> None:
    """As browsers write WebM while they record: the size of the segment is eight bytes of "unknown"."""
    data = bytearray(write_clip(tmp_path / "a.webm", ClipSpec(codec="libvpx-vp9", options={})).read_bytes())
    size_at = data.find(b"\x18\x53\x80\x67") + 4
    assert data[size_at] == 0x01, "the muxer writes this size in eight bytes"
    data[size_at : size_at + 8] = b"\x01" + b"\xff" * 7
    (tmp_path / "live.webm").write_bytes(data)
    assert probe(tmp_path / "live.webm").num_frames == probe(tmp_path / "a.webm").num_frames


@pytest.mark.parametrize(
    ("shown", "scaled"), [((640, 360), (455, 256)), ((482, 360), (343, 256)), ((360, 482), (256, 343))]
)
def test_whole_frames_round_the_longer_side_to_nearest_and_cropped_ones_down(
    shown: tuple[int, int], scaled: tuple[int, int]
) -> None:
    assert scaled_size(*shown, FrameSize(256, "whole")) == scaled
    assert max(scaled_size(*shown, FrameSize(256, "crop"))) == 256 * max(shown) // min(shown)
