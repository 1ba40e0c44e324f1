"""Files that are cut off or damaged: what is complete is used, and warnings say how much is missing."""

import re
from pathlib import Path

import av
import pytest
from PIL import Image

from bt_model.errors import VideoError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import Wanted, decode, decode_clip, probe, scan
from tests.bt_model.video.test_formats import CLIPS, animated, written
from tests.clips import ClipSpec, numbers_in, picture, write_clip, write_cut, write_damaged

SIZE = FrameSize(64, "squash")
EVERY = Sampling(fps=240)
COUNT = 30
CUT = [
    "h264.ts", "hevc.ts", "mpeg2.ts", "h264.m2ts", "h264.flv", "flv1.flv", "mjpeg.avi", "ffv1.avi",
    "ffv1.mkv", "mpeg2.mkv", "vp8.ogv", "mjpeg.wmv", "a.gif", "a.webp", "a.png", "h264.mkv",
    "vp9.webm", "faststart.mp4",
]  # fmt: skip
MJPEG = ClipSpec(COUNT, codec="mjpeg", pix_fmt="yuvj420p", options={})


def whole(folder: Path, name: str) -> bytes:
    """Thirty frames, of about one size where codecs allow, so that half of the file has half of them."""
    path = folder / name
    if name in CLIPS:
        options = {**CLIPS[name][0].options, "g": "3"}
        return written(folder, name, num_frames=COUNT, options=options).read_bytes()
    if path.suffix in (".gif", ".webp", ".png"):
        return animated(path, [40] * COUNT).read_bytes()
    if name == "faststart.mp4":
        return write_cut(path, 1.0, MJPEG, index_first=True).read_bytes()
    if name == "mjpeg.wmv":  # has packets of 3,200 bytes, however little is in them
        return write_clip(path, MJPEG).read_bytes()
    codec = {"vp9.webm": "libvpx-vp9"}.get(name, "libx264")
    return write_clip(path, ClipSpec(COUNT, codec=codec, options={"g": "3", "crf": "20"})).read_bytes()


@pytest.mark.parametrize("name", CUT)
def test_what_is_complete_of_a_file_that_is_cut_off_is_used(tmp_path: Path, name: str) -> None:
    data = whole(tmp_path, name)
    path = tmp_path / f"cut{Path(name).suffix}"
    for share in (0.5, 0.75, 0.9):
        path.write_bytes(data[: int(len(data) * share) // 2 * 2 + 1])
        facts = probe(path)
        frames = decode(path, EVERY, SIZE, 8)
        numbers = numbers_in(frames.pixels)
        assert 0 < frames.facts.num_frames <= facts.num_frames < COUNT
        assert facts.num_frames - frames.facts.num_frames <= 2
        assert re.match(
            r"the file is cut off: (its end is|\d+ of \d+ bytes or more are) mis", facts.warnings[0]
        )
        assert numbers[:-3] == list(range(len(numbers)))[:-3]  # the last ones may refer to what is missing
        assert frames.facts.seconds < COUNT / 25 * (share + 0.15)


@pytest.mark.parametrize("name", ["mjpeg.avi", "flv1.flv", "faststart.mp4", "mpeg2.mkv"])
def test_a_frame_that_is_cut_in_two_is_left_out(tmp_path: Path, name: str) -> None:
    data, path = whole(tmp_path, name), tmp_path / f"cut{Path(name).suffix}"
    path.write_bytes(data)
    with av.open(str(path)) as stored:
        ends = [(packet.pos or 0) + packet.size for packet in stored.demux(video=0) if packet.size]
    path.write_bytes(data[: ends[20] - 10])
    assert probe(path).num_frames == 20


def test_a_fragmented_mp4_is_used_up_to_where_it_is_cut_off(tmp_path: Path) -> None:
    spec = ClipSpec(COUNT, options={"crf": "10", "g": "5", "bf": "0", "sc_threshold": "0"})
    data = write_clip(tmp_path / "a.mp4", spec, {"movflags": "frag_keyframe+empty_moov"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: data.rfind(b"moof", 0, data.rfind(b"mfra")) + 12])
    frames = decode(tmp_path / "cut.mp4", EVERY, SIZE, 8)
    assert (numbers_in(frames.pixels), frames.facts.seconds) == ([*range(25)], pytest.approx(1.0))
    assert len(frames.facts.warnings) == 1


def test_an_mp4_whose_index_is_first_says_how_many_seconds_are_lost(tmp_path: Path) -> None:
    facts = probe(write_cut(tmp_path / "a.mp4", 0.8, MJPEG, index_first=True))
    assert facts.warnings[1] == f"{facts.num_frames / 25:.2f} of 1.20 seconds are there"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_half_a_picture_is_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture(3)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError) as caught:
        probe(path)
    assert caught.value.code == "truncated_video"


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif", "mjpeg.wmv", "vp9.webm", "h264.mkv"])
def test_a_whole_file_has_no_warning(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(whole(tmp_path, name))
    assert probe(path).warnings == ()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_picture_with_something_behind_it_is_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture(3)).save(path)
    path.write_bytes(path.read_bytes() + b"a film of the same moment" * 100)
    assert probe(path).warnings == ()


@pytest.fixture(params=["mkv", "avi"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_damaged(tmp_path / f"a.{request.param}")


def test_frames_that_do_not_decode_are_counted_out_with_their_times(damaged: Path) -> None:
    assert probe(damaged).num_frames == COUNT
    frames = decode(damaged, EVERY, SIZE, 8)
    kept = [*range(10), *range(20, 30)]
    assert (numbers_in(frames.pixels), frames.facts.num_frames) == (kept, 20)
    assert frames.timestamps == pytest.approx([number / 25 for number in kept], abs=0.002)
    assert frames.facts.warnings == ("20 of 30 frames can be decoded; the others are left out",)


def test_what_an_earlier_decode_counted_holds_for_windows_without_damage(damaged: Path) -> None:
    window = Sampling(fps=240, start=0.9)
    with damaged.open("rb") as file:
        clip = scan(file)
        _, (first,) = decode_clip(file, clip, Wanted(window, (SIZE,), 8))
        found, _ = decode_clip(file, clip, Wanted(EVERY, (SIZE,), 8))
        known, (later,) = decode_clip(file, found, Wanted(window, (SIZE,), 8))
    assert known is found
    # frames of an AVI are told by their order, so that any window shows which are missing
    assert first.facts.num_frames == (20 if damaged.suffix == ".avi" else 30)
    assert (later.facts.num_frames, later.indices[-1]) == (20, 19)
    assert numbers_in(later.pixels) == numbers_in(first.pixels)
    assert later.timestamps == pytest.approx(first.timestamps)
