"""Files that cannot be used: each has its own code, and no message tells a path or a decoder's text."""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from bt_model.errors import UnsupportedMediaError, VideoError, VideoLimitError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode, probe
from bt_model.video.refusals import DecodeLimits
from tests.clips import ClipSpec, write_clip, write_cover, write_cut, write_sound

SIZE = FrameSize(32)
RAW = ClipSpec(codec="rawvideo", options={})
HUFFYUV = ClipSpec(codec="huffyuv", pix_fmt="yuv422p", options={})


def written(data: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return write


def no_frames(path: Path) -> Path:
    """An index that names a video track, and not one frame."""
    whole = write_clip(path.with_name("whole.mp4"), ClipSpec(num_frames=2)).read_bytes()
    for table in (b"stts", b"stsc", b"stsz", b"stco", b"stss", b"ctts"):
        at = whole.find(table)
        if at >= 0:
            count_at = at + (12 if table == b"stsz" else 8)
            whole = whole[:count_at] + struct.pack(">I", 0) + whole[count_at + 4 :]
    return written(whole)(path)


def scrambled(path: Path) -> Path:
    """A good index over rubbish."""
    data = bytearray(write_clip(path.with_name("whole.mp4")).read_bytes())
    start = data.find(b"mdat") + 4
    end = data.find(b"moov") - 4
    data[start:end] = b"\xff" * (end - start)
    return written(bytes(data))(path)


def replaced(old: bytes, new: bytes) -> Callable[[Path], Path]:
    return lambda path: written(write_clip(path).read_bytes().replace(old, new))(path)


BROKEN: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
    "empty": ("a.mp4", "empty_file", written(b"")),
    "text": ("a.mp4", "unsupported_media", written(b"hello, I am a video\n" * 50)),
    "random": ("a.mp4", "unsupported_media", written(bytes(range(255, -1, -1)) * 40)),
    "picture": ("a.mp4", "unsupported_media", written(b"BM" + bytes(100))),
    "picture without pixels": ("a.png", "truncated_video", written(b"\x89PNG\r\n\x1a\n" + bytes(100))),
    "playlist": ("a.mp4", "unsupported_media", written(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")),
    "concat": ("a.mp4", "unsupported_media", written(b"ffconcat version 1.0\nfile b.mp4\n")),
    "session": ("a.mp4", "unsupported_media", written(b"v=0\no=- 0 0 IN IP4 127.0.0.1\n" * 4)),
    "header only": ("a.mp4", "truncated_video", written(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0))),
    "too far": ("a.mp4", "truncated_video", written(struct.pack(">I4sQ", 1, b"ftyp", 2**64 - 1))),
    "a header too far": (
        "a.mkv",
        "truncated_video",
        written(b"\x1a\x45\xdf\xa3\x01" + b"\xff" * 6 + b"\xfe"),
    ),
    "cut, index lost": ("a.mp4", "truncated_video", lambda p: write_cut(p, 0.6)),
    "cut in its index": ("a.mp4", "truncated_video", lambda p: write_cut(p, 0.05, index_first=True)),
    "cut before a frame": ("a.mkv", "truncated_video", lambda p: write_cut(p, 0.03)),
    "cut avi": ("a.avi", "truncated_video", lambda p: write_cut(p, 0.05)),
    "sound": ("a.mp4", "no_video_stream", write_sound),
    "cover picture": ("a.mp4", "no_video_stream", write_cover),
    "sound in webm": ("a.webm", "no_video_stream", write_sound),
    "no frames": ("a.mp4", "no_frames", no_frames),
    "scrambled": ("a.mp4", "undecodable_video", scrambled),
    "other codec": ("a.avi", "unsupported_media", lambda p: write_clip(p, RAW)),
    "unknown codec": ("a.mp4", "unsupported_media", replaced(b"avc1", b"zzzz")),
    "lossless codec": ("a.avi", "unsupported_media", lambda p: write_clip(p, HUFFYUV)),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_with_its_own_code(tmp_path: Path, kind: str) -> None:
    name, code, write = BROKEN[kind]
    path = write(tmp_path / name)
    for use in (probe, lambda p: decode(p, Sampling(), SIZE, 4)):
        with pytest.raises(VideoError) as caught:
            use(path)
        assert caught.value.code == code


@pytest.mark.parametrize("kind", BROKEN)
def test_a_refusal_tells_no_path(tmp_path: Path, kind: str) -> None:
    name, _, write = BROKEN[kind]
    with pytest.raises(VideoError) as caught:
        probe(write(tmp_path / name))
    assert "/tmp" not in caught.value.message
    assert name not in caught.value.message


def test_no_known_container_is_the_unsupported_class(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMediaError, match="mp4, matroska, webm, avi, mpegts"):
        probe(written(b"x" * 100)(tmp_path / "a.mp4"))


LIMITS = {
    "pixels": (DecodeLimits(max_pixels=96 * 64), DecodeLimits(max_pixels=96 * 64 - 1)),
    "seconds": (DecodeLimits(max_seconds=29 / 25), DecodeLimits(max_seconds=28 / 25)),
    "frames in the file": (DecodeLimits(max_packets=30), DecodeLimits(max_packets=29)),
    "decoded bytes": (
        DecodeLimits(max_decoded_bytes=4 * 32 * 32 * 3),
        DecodeLimits(max_decoded_bytes=4 * 32 * 32 * 3 - 1),
    ),
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_file_at_a_limit_is_read(tmp_path: Path, what: str) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(audio=True))
    assert decode(path, Sampling(), FrameSize(32, "squash"), 4, limits=LIMITS[what][0]).num_frames == 4


@pytest.mark.parametrize("what", LIMITS)
def test_a_file_above_a_limit_is_refused_by_name(tmp_path: Path, what: str) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(audio=True))
    with pytest.raises(VideoLimitError, match=rf"{what}.*: ([\d.e+]+); at most ([\d.e+]+) allowed") as caught:
        decode(path, Sampling(), FrameSize(32, "squash"), 4, limits=LIMITS[what][1])
    assert caught.value.code == "video_too_large"
    value, most = map(float, re.findall(r": (\S+); at most (\S+) ", caught.value.message)[0])
    assert most < value < 1.1 * most + 2  # each limit is missed by one


def test_frames_of_the_least_side_are_read(tmp_path: Path) -> None:
    assert probe(write_clip(tmp_path / "a.mp4", ClipSpec(width=96, height=16))).height == 16


def test_frames_below_the_least_side_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="at least 16") as caught:
        probe(write_clip(tmp_path / "a.mp4", ClipSpec(width=96, height=14)))
    assert caught.value.code == "video_too_small"
