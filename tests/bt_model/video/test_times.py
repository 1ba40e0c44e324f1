"""Times are what the container says, on a player's clock: facts, frames and windows agree."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from bt_model.errors import UnsupportedMediaError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode, probe
from bt_model.video.packets import PacketTable
from bt_model.video.refusals import DecodeLimits
from bt_model.video.sniff import Container
from bt_model.video.timeline import StreamHeader, Timeline, timeline_of
from tests.clips import ClipSpec, numbers_in, write_clip, write_tracks
from tests.field import field_file

N = 30
SIZE = FrameSize(64, "squash")
EVERY = Sampling(fps=240)
SLOTS = (0, 1, 4, 5, 11, 12, 13, 20, 28, 29)  # of ten frames; the others are empty


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("mpeg4", {"qmin": "1", "qmax": "2"}),
        ("mpeg4", {"bf": "2", "qmin": "1", "qmax": "2"}),
        ("libx264", {"crf": "10", "bf": "2"}),
    ],
)
def test_a_frame_of_an_avi_is_shown_in_its_own_slot(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    spec = ClipSpec(10, fps=10, codec=codec, options=options, slots=SLOTS)
    frames = decode(write_clip(tmp_path / "a.avi", spec), EVERY, SIZE, 8)
    assert numbers_in(frames.pixels) == list(range(10))
    known = 8 if "bf" in options else 10  # of frames that are reordered, the slots of the last are not stored
    assert frames.timestamps[:known] == pytest.approx([slot / 10 for slot in SLOTS[:known]])
    assert frames.facts.seconds >= frames.timestamps[-1] + 0.1 - 1e-9


def test_gaps_lie_where_the_decoder_shows_them() -> None:
    stored = [0, 1, 2, 7, 8, 20]  # with one packet more before each frame than it is itself
    shown = timeline([None] * 6, "avi", stored, delay=1)
    assert shown.times == pytest.approx([tick / 90_000 for tick in (0, 1, 6, 7, 19, 20)])
    assert timeline([None] * 2, "asf", [5, 9], delay=2).times == pytest.approx([0, 4 / 90_000])


def test_packets_that_are_lost_at_the_beginning_are_no_delay() -> None:
    stored = [*range(20), 30, 31]
    shown = timeline([None] * 22, "avi", stored, delay=17)
    assert shown.times == pytest.approx([tick / 90_000 for tick in stored])


def test_slots_without_a_picture_at_the_ends_of_an_avi_count() -> None:
    shown = timeline([0, 99, 1], "avi", [4, 5, 9], num_ticks=20)
    assert shown.times == pytest.approx([tick / 90_000 for tick in (4, 5, 9)])
    assert (shown.labels, shown.seconds) == (None, pytest.approx(3609 / 90_000))
    assert timeline([4], "avi", num_ticks=90_000).seconds == pytest.approx(1.0)


def test_a_window_of_an_avi_is_of_its_slots(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", ClipSpec(10, fps=10, codec="mpeg4", options={}, slots=SLOTS))
    frames = decode(path, Sampling(fps=240, start=1.0, end=1.5), SIZE, 8)
    assert (set(frames.indices), probe(path).seconds) == ({4, 5, 6}, pytest.approx(3.0))


def test_times_of_an_avi_with_dropped_frames_that_was_reported() -> None:
    frames = decode(field_file("avi_dropped_slots.avi"), Sampling(num_frames=8), SIZE, 8)
    assert frames.indices == tuple(range(3, 53, 7))
    assert frames.timestamps == pytest.approx((1.4, 5.1, 5.8, 6.5, 7.2, 7.9, 11.9, 16.8))
    assert frames.facts.seconds == pytest.approx(19.7)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize(("begin_ms", "first"), [(1500, 1.5), (240, 0.24), (60, 0.0)])
def test_sound_that_begins_before_the_picture_begins_the_clock_unless_it_is_a_run_in(
    tmp_path: Path, suffix: str, begin_ms: int, first: float
) -> None:
    stamps = [begin_ms + 40 * i for i in range(5)]
    spec = ClipSpec(5, stamps_ms=stamps, audio=True, options={"bf": "0"})
    frames = decode(write_clip(tmp_path / f"a.{suffix}", spec), EVERY, SIZE, 8)
    assert frames.timestamps == pytest.approx([first + 0.04 * i for i in range(5)], abs=0.03)
    assert frames.facts.seconds == pytest.approx(first + 0.2, abs=0.03)
    late = decode(write_clip(tmp_path / f"a.{suffix}", spec), Sampling(fps=240, start=first + 0.1), SIZE, 8)
    assert late.indices == (3, 4)


def test_the_last_frame_lasts_as_long_as_the_container_says(tmp_path: Path) -> None:
    spec = ClipSpec(4, stamps_ms=[0, 40, 80, 2000], options={"bf": "0"})
    facts = probe(write_clip(tmp_path / "a.mkv", spec))
    assert (facts.num_frames, facts.seconds) == (4, pytest.approx(2.04, abs=0.7))


def timeline(
    pts: Sequence[int | None],
    container: Container,
    dts: Sequence[int | None] = (),
    num_ticks: int | None = None,
    delay: int = 0,
) -> Timeline:
    """Of packets on a clock of 90,000 ticks in a second, each shown for 3,600."""
    table = PacketTable()
    for shown, decoded in zip(pts, dts or pts, strict=True):
        table.add(shown, decoded, 3600, is_key=True, is_shown=True)
    return timeline_of(table, StreamHeader(container, Fraction(1, 90_000), 25.0, num_ticks, (), delay))


@pytest.mark.parametrize("leap", [-4 * 3600, -90_000 * 7000, 90_000 * 3600])
def test_time_goes_on_where_a_broadcast_sets_its_clock_anew(leap: int) -> None:
    stamps = [1000 + 3600 * i for i in range(8)]
    joined = timeline([*stamps[:5], *(stamp + leap for stamp in stamps[5:])], "mpegts")
    assert joined.times == pytest.approx([0.04 * i for i in range(8)])
    assert (joined.labels, joined.seconds) == (None, pytest.approx(0.32))


def test_a_pause_of_a_broadcast_is_no_new_clock() -> None:
    stamps = [0, 3600, 3600 + 90_000 * 9]
    assert timeline(stamps, "mpegts").times == pytest.approx([0, 0.04, 9.04])


def test_frames_with_one_timestamp_are_told_apart_by_their_order() -> None:
    shown = timeline([0, 3600, 3600, 7200], "matroska")
    assert (shown.labels, shown.times) == (None, pytest.approx([0, 0.04, 0.04, 0.08]))


def test_frames_without_timestamps_have_those_of_decoding() -> None:
    assert timeline([0, None, 7200], "matroska", [0, 3600, 7200]).times == pytest.approx([0, 0.04, 0.08])


def test_frames_without_any_time_have_the_rate_of_the_header() -> None:
    times = timeline([None] * 4, "matroska").times
    assert [after - before for before, after in pairwise(times)] == pytest.approx([0.04] * 3)


@pytest.mark.parametrize("suffix", ["mkv", "mov", "mp4"])
@pytest.mark.parametrize("default", [0, 1, 2])
def test_the_track_that_is_marked_as_default_is_shown(tmp_path: Path, suffix: str, default: int) -> None:
    path = write_tracks(tmp_path / f"a.{suffix}", default, num_videos=3)
    assert numbers_in(decode(path, EVERY, SIZE, 8).pixels) == [default]


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
def test_a_file_of_many_tracks_is_read(tmp_path: Path, suffix: str) -> None:
    path = write_tracks(tmp_path / f"a.{suffix}", 0, num_videos=1, num_sounds=100)
    assert (probe(path).num_frames, probe(path).has_audio) == (1, True)


def test_a_file_of_nine_tracks_that_was_reported_is_read() -> None:
    assert probe(field_file("nine_tracks.mov")).num_frames == 10


def test_more_tracks_than_are_looked_at_are_refused_with_a_way_out(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", 0, num_videos=1, num_sounds=4)
    assert probe(path, DecodeLimits(max_tracks=5)).num_frames == 1
    with pytest.raises(UnsupportedMediaError, match=r"5 tracks; at most 4 .*ffmpeg -i"):
        probe(path, DecodeLimits(max_tracks=4))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"crf": "10", "bf": "2"}),
        ("libx264", {"crf": "10", "bf": "0"}),
        ("mpeg4", {"bf": "2", "qmin": "1", "qmax": "2"}),
    ],
)
def test_frames_are_in_order_also_where_they_are_stamped_as_they_are_stored(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    source = write_clip(tmp_path / "source.mkv", ClipSpec(N, codec=codec, options=options))
    with av.open(str(source)) as read, av.open(str(tmp_path / name), "w") as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(packet for packet in read.demux(video=0) if packet.size):
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            output.mux(packet)
    frames = decode(tmp_path / name, EVERY, SIZE, 8)
    assert numbers_in(frames.pixels) == list(range(N))
    assert frames.timestamps == pytest.approx([number / 25 for number in range(N)], abs=0.002)
    few = decode(tmp_path / name, Sampling(num_frames=3, start=0.2, end=0.6), SIZE, 8)
    assert numbers_in(few.pixels) == list(few.indices)
