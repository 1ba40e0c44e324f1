"""Every container and codec that is accepted, drawn here: its numbered frames, in order, at their times."""

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from bt_model.errors import UnsupportedMediaError, VideoError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode, probe
from bt_model.video.formats import CODECS, FORMATS, HEAD_BYTES, container_of
from tests.clips import ClipSpec, corners_of, numbers_in, picture, write_clip

SIZE = FrameSize(64, "squash")
EVERY = Sampling(fps=240)
DATA = Path(__file__).parents[2] / "data"
Q = {"qmin": "1", "qmax": "2"}
B_FRAMES = {**Q, "bf": "2", "g": "6"}


def spec(
    codec: str, pix_fmt: str = "yuv420p", options: dict[str, str] | None = None, **more: Any
) -> ClipSpec:
    return ClipSpec(12, codec=codec, pix_fmt=pix_fmt, options=Q if options is None else options, **more)


H264 = spec("libx264", options={"crf": "10", "bf": "2", "g": "6"})
CLIPS: dict[str, tuple[ClipSpec, str, str]] = {  # file name -> what is written, its container and codec
    "h264.ts": (H264, "mpegts", "h264"),
    "hevc.ts": (
        spec("libx265", options={"crf": "8", "x265-params": "log-level=none"}),
        "mpegts",
        "hevc",
    ),
    "mpeg2.ts": (spec("mpeg2video", options=B_FRAMES), "mpegts", "mpeg2video"),
    "h264.m2ts": (H264, "mpegts", "h264"),
    "mpeg2.mpg": (spec("mpeg2video", options=B_FRAMES), "mpeg", "mpeg2video"),
    "mpeg1.mpg": (spec("mpeg1video", options=B_FRAMES), "mpeg", "mpeg1video"),
    "mpeg2.vob": (spec("mpeg2video"), "mpeg", "mpeg2video"),
    "mpeg2.mkv": (spec("mpeg2video", options=B_FRAMES), "matroska", "mpeg2video"),
    "h264.flv": (H264, "flv", "h264"),
    "flv1.flv": (spec("flv"), "flv", "flv1"),
    "wmv1.wmv": (spec("wmv1"), "asf", "wmv1"),
    "wmv2.wmv": (spec("wmv2"), "asf", "wmv2"),
    "msmpeg4v2.wmv": (spec("msmpeg4v2"), "asf", "msmpeg4v2"),
    "msmpeg4v3.asf": (spec("msmpeg4"), "asf", "msmpeg4v3"),
    "h264.asf": (H264, "asf", "h264"),
    "msmpeg4v3.avi": (spec("msmpeg4"), "avi", "msmpeg4v3"),
    "mjpeg.avi": (spec("mjpeg", "yuvj420p"), "avi", "mjpeg"),
    "mjpeg.mov": (spec("mjpeg", "yuvj422p"), "mp4", "mjpeg"),
    "mjpeg.mkv": (spec("mjpeg", "yuvj444p"), "matroska", "mjpeg"),
    "ffv1.mkv": (spec("ffv1", options={}), "matroska", "ffv1"),
    "ffv1.avi": (spec("ffv1", "yuv444p", options={}), "avi", "ffv1"),
    "prores.mov": (spec("prores_ks", "yuv422p10le", options={}), "mp4", "prores"),
    "prores4444.mov": (spec("prores_ks", "yuv444p10le", options={}), "mp4", "prores"),
    "dnxhr.mov": (spec("dnxhd", "yuv422p", {"profile": "dnxhr_hq"}, width=256, height=128), "mp4", "dnxhd"),
    "square.mov": (spec("dnxhd", "yuv422p", {"profile": "dnxhr_sq"}, width=256, height=256), "mp4", "dnxhd"),
    "h263.3gp": (spec("h263", width=176, height=144), "mp4", "h263"),
    "h263.avi": (spec("h263p"), "avi", "h263"),
    "vp8.ogv": (spec("libvpx", options={"b": "2M"}), "ogg", "vp8"),
    "one.gif": (spec("gif", "rgb8", options={}), "gif", "gif"),
}  # fmt: skip


def written(folder: Path, name: str, **changes: Any) -> Path:
    """A clip of the table; M2TS is what a transport stream is with four bytes more before each packet."""
    written_spec = replace(CLIPS[name][0], **changes)
    if name.endswith(".m2ts"):
        stream = write_clip(folder / "a.ts", written_spec).read_bytes()
        packets = [stream[at : at + 188] for at in range(0, len(stream), 188)]
        (folder / name).write_bytes(b"".join(b"\0\0\1\2" + packet for packet in packets))
        return folder / name
    return write_clip(folder / name, written_spec)


@pytest.mark.parametrize("name", CLIPS)
def test_every_pair_of_container_and_codec_gives_its_frames(tmp_path: Path, name: str) -> None:
    _, container, codec = CLIPS[name]
    frames = decode(written(tmp_path, name), EVERY, SIZE, 8)
    rate = 25 if container != "gif" else frames.facts.fps
    assert (frames.facts.container, frames.facts.codec) == (container, codec)
    assert frames.facts.warnings == ()
    assert numbers_in(frames.pixels) == list(range(12))
    assert {corners_of(pixels) for pixels in frames.pixels} == {"RGB-"}
    assert frames.timestamps == pytest.approx([i / rate for i in range(12)], abs=0.002)
    assert frames.facts.seconds == pytest.approx(12 / rate, abs=0.01)


def test_theora_gives_its_frames() -> None:
    """From a file: no package that is installed here writes it."""
    frames = decode(DATA / "theora.ogv", EVERY, SIZE, 8)
    assert (frames.facts.container, frames.facts.codec) == ("ogg", "theora")
    assert numbers_in(frames.pixels) == list(range(12))
    assert frames.timestamps == pytest.approx([i / 25 for i in range(12)])


def test_every_codec_but_those_without_a_coder_is_tried_here() -> None:
    tried = {codec for _, _, codec in CLIPS.values()} | {
        "theora",
        "vp9",
        "av1",
        "mpeg4",
    }  # test_decode has these
    assert set(CODECS) - tried == {"wmv3", "vc1"}


def test_a_window_of_a_transport_stream_is_cut_where_others_would_be(tmp_path: Path) -> None:
    frames = decode(written(tmp_path, "h264.ts"), Sampling(fps=240, start=0.16, end=0.3), SIZE, 8)
    assert (frames.indices, numbers_in(frames.pixels)) == ((4, 5, 6, 7), [4, 5, 6, 7])


def test_time_goes_on_in_transport_streams_one_behind_the_other(tmp_path: Path) -> None:
    once = written(tmp_path, "h264.ts").read_bytes()
    (tmp_path / "twice.ts").write_bytes(once + once)
    frames = decode(tmp_path / "twice.ts", EVERY, SIZE, 8)
    assert numbers_in(frames.pixels) == [*range(12), *range(12)]
    assert frames.timestamps == pytest.approx([i / 25 for i in range(24)], abs=0.041)


def pictures(count: int = 5) -> list[Image.Image]:
    return [Image.fromarray(picture(number)) for number in range(count)]


def animated(path: Path, milliseconds: Sequence[int], **more: Any) -> Path:
    first, *others = pictures(len(milliseconds))
    moving: dict[str, Any] = {
        "save_all": True,
        "append_images": others,
        "duration": list(milliseconds),
        "loop": 0,
        **more,
    }
    first.save(path, **moving)
    return path


@pytest.mark.parametrize("suffix", ["webp", "png", "gif"])
def test_frames_of_an_animated_picture_last_as_long_as_they_say(tmp_path: Path, suffix: str) -> None:
    more = {"lossless": True} if suffix == "webp" else dict[str, bool]()
    frames = decode(animated(tmp_path / f"a.{suffix}", [100, 250, 40, 300, 200], **more), EVERY, SIZE, 8)
    assert numbers_in(frames.pixels) == list(range(5))
    assert frames.timestamps == pytest.approx([0, 0.1, 0.35, 0.39, 0.69])
    assert frames.facts.seconds == pytest.approx(0.89)


@pytest.mark.parametrize("suffix", ["webp", "png", "gif"])
def test_frames_without_a_duration_are_shown_as_browsers_show_them(tmp_path: Path, suffix: str) -> None:
    more = {"lossless": True} if suffix == "webp" else dict[str, bool]()
    frames = decode(animated(tmp_path / f"a.{suffix}", [0, 0, 0], **more), EVERY, SIZE, 8)
    assert frames.timestamps == pytest.approx([0, 0.1, 0.2])


STILLS: dict[str, dict[str, Any]] = {
    "rgb.png": {}, "rgb.jpg": {"quality": 95}, "rgb.webp": {"lossless": True}, "lossy.webp": {"quality": 95},
    "grey.jpg": {}, "palette.png": {}, "cmyk.jpg": {"quality": 95},
}  # fmt: skip


@pytest.mark.parametrize("name", STILLS)
def test_a_still_picture_is_a_clip_of_one_frame(tmp_path: Path, name: str) -> None:
    mode = {"grey": "L", "palette": "P", "cmyk": "CMYK"}.get(name.split(".", maxsplit=1)[0], "RGB")
    image = Image.fromarray(picture(7)).convert(mode)
    image.save(tmp_path / name, **STILLS[name])
    frames = decode(tmp_path / name, Sampling(num_frames=8), SIZE, 8)
    assert (frames.facts.num_frames, set(frames.timestamps)) == (1, {0.0})
    expected = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(frames.pixels[0].astype(int) - expected).mean() < 3


def test_a_picture_of_sixteen_bits_keeps_its_greys(tmp_path: Path) -> None:
    grey = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    Image.fromarray(grey).save(tmp_path / "a.png")
    got = decode(tmp_path / "a.png", Sampling(), SIZE, 1).pixels[0, 32, :, 0].astype(int)
    assert np.abs(got - (grey[0] >> 8)).max() <= 1


TURNED = {1: "RGB-", 2: "GR-B", 3: "-BGR", 4: "B-RG", 5: "RBG-", 6: "BR-G", 7: "-GBR", 8: "G-RB"}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("number", TURNED)
def test_a_photograph_is_turned_as_the_camera_was_held(tmp_path: Path, suffix: str, number: int) -> None:
    image = Image.fromarray(picture(5))
    exif = image.getexif()
    exif[0x0112] = number
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    frames = decode(tmp_path / f"a.{suffix}", Sampling(), SIZE, 1)
    assert corners_of(frames.pixels[0]) == TURNED[number]
    assert (frames.facts.width, frames.facts.height) == ((96, 64) if number < 5 else (64, 96))


def test_a_film_of_photographs_that_say_how_the_camera_was_held_is_read(tmp_path: Path) -> None:
    photograph = io.BytesIO()
    image = Image.fromarray(picture(5))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(photograph, "JPEG", exif=exif, quality=95)
    with av.open(str(tmp_path / "a.avi"), "w") as output:
        stream = output.add_stream("mjpeg", rate=5)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number in range(3):
            packet = av.Packet(photograph.getvalue())
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 5), number, number
            packet.is_keyframe = True
            output.mux(packet)
    frames = decode(tmp_path / "a.avi", EVERY, SIZE, 8)
    assert {corners_of(pixels) for pixels in frames.pixels} == {"BR-G"}


HEADS = {
    "mpegts": b"\x47" + bytes(187), "m2ts": b"\0\0\0\0\x47" + bytes(187), "dvb": b"\x47" + bytes(203),
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADS)
def test_a_transport_stream_is_known_by_its_packets(kind: str) -> None:
    assert container_of(HEADS[kind] * 8) == "mpegts"
    assert container_of(HEADS[kind] * 3) is None
    whole = HEADS[kind] * 8
    third = 2 * len(HEADS[kind]) + whole.index(b"G")
    assert container_of(whole[:third] + b"\1" + whole[third + 1 :]) is None
    assert container_of(b"G" * 100 + b"o" * 100) is None


def test_every_container_is_known_by_as_many_bytes_as_are_looked_at(tmp_path: Path) -> None:
    for name, (_, container, _) in CLIPS.items():
        assert container_of(written(tmp_path, name).read_bytes()[:HEAD_BYTES]) == container


@pytest.mark.parametrize("codec", ["cinepak", "rawvideo", "huffyuv"])
def test_a_codec_that_is_not_read_is_refused_with_a_way_out(tmp_path: Path, codec: str) -> None:
    pix_fmt = {"cinepak": "rgb24", "rawvideo": "yuv420p", "huffyuv": "yuv422p"}[codec]
    path = write_clip(tmp_path / "a.avi", ClipSpec(2, codec=codec, pix_fmt=pix_fmt, options={"strict": "-2"}))
    with pytest.raises(UnsupportedMediaError, match=r"allowed: h264, .*ffmpeg -i INPUT .*libx264"):
        probe(path)


@pytest.mark.parametrize("head", [b"RIFF\x10\0\0\0WAVE", b"\x06\x0e\x2b\x34", b".RMF", b"BM", b"<svg"])
def test_a_container_that_is_not_read_is_refused_with_a_way_out(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(head + bytes(2000))
    with pytest.raises(UnsupportedMediaError, match=r"allowed: mp4, .*ffmpeg -i INPUT"):
        probe(tmp_path / "a.bin")


def test_a_picture_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(VideoError) as caught:
        probe(tmp_path / "a.png")
    assert caught.value.code in ("video_too_large", "undecodable_video")


def test_documentation_lists_what_is_accepted() -> None:
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
    for each in FORMATS.values():
        assert f"| {each.name} | {each.suffixes} |" in page
    assert f"Codecs: {', '.join(CODECS)}." in " ".join(page.split())


@pytest.mark.parametrize("brand", [b"avif", b"heic", b"mif1"])
def test_a_photograph_in_boxes_is_no_video_that_was_cut_off(brand: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    path.write_bytes(b"\0\0\0\x20ftyp" + brand + bytes(4000))
    with pytest.raises(UnsupportedMediaError, match="convert it"):
        probe(path)
