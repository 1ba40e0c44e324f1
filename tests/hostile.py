"""Files made to do harm, the same ones each time: hostile on purpose, mutants of good clips, and playlists.

Mutants are damaged at random by a seeded generator; the hostile ones lie in one place, where it hurts.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from bt_model.video import picture_list
from tests.cells import CellSpec, write_cells
from tests.clips import HOSTILE, ClipSpec, picture, write_clip, write_cover, write_sound

_SMALL = ClipSpec(num_frames=8, width=64, height=64)  # x265 corrupts its memory at smaller ones
_SPECS = {
    "h264.mp4": _SMALL,
    "turned.mp4": replace(_SMALL, rotation=90, audio=True),
    "hevc.mkv": replace(_SMALL, codec="libx265", options={"x265-params": "log-level=none"}),
    "vp8.webm": replace(_SMALL, codec="libvpx", options={}),
    "vp9.webm": replace(_SMALL, codec="libvpx-vp9", options={}),
    "mpeg4.avi": replace(_SMALL, codec="mpeg4", options={}),
    "h264.ts": _SMALL,
    "mpeg2.ts": replace(_SMALL, codec="mpeg2video", options={}),
    "mpeg1.mpg": replace(_SMALL, codec="mpeg1video", options={}),
    "flv1.flv": replace(_SMALL, codec="flv", options={}),
    "wmv2.wmv": replace(_SMALL, codec="wmv2", options={}),
    "msmpeg4v3.asf": replace(_SMALL, codec="msmpeg4", options={}),
    "vp8.ogv": replace(_SMALL, codec="libvpx", options={}),
    "mjpeg.avi": replace(_SMALL, codec="mjpeg", pix_fmt="yuvj420p", options={}),
    "h263.3gp": replace(_SMALL, codec="h263", width=128, height=96, options={}),
    "ffv1.mkv": replace(_SMALL, codec="ffv1", options={}),
    "prores.mov": replace(_SMALL, codec="prores_ks", pix_fmt="yuv422p10le", options={}),
    "dnxhr.mov": replace(
        _SMALL, codec="dnxhd", width=256, height=128, pix_fmt="yuv422p", options={"profile": "dnxhr_sq"}
    ),
    "moving.gif": replace(_SMALL, codec="gif", pix_fmt="rgb8", options={}),
    "av1.mp4": replace(_SMALL, codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    "slots.avi": replace(_SMALL, codec="mpeg4", options={"bf": "2"}, slots=(0, 1, 5, 6, 7, 20, 21, 30)),
    "fields.mpg": replace(_SMALL, codec="mpeg2video", options={"flags": "+ilme+ildct"}),
    "alpha.mkv": replace(_SMALL, codec="ffv1", pix_fmt="yuva420p", options={}),
}
_HDR = CellSpec("bt2020nc", "tv", "bt2020", "arib-std-b67", "yuv420p10le", width=64, height=64, rotation=90)
_PICTURES = ("jpg", "png", "webp")
_THEORA = Path(__file__).parent / "data" / "theora.ogv"
_BOXES = b"""moov trak mdia minf stbl stsd stts stsz stco stsc ctts elst tkhd mvhd mdhd hdlr dref avc1 avcC
mdat ftyp""".split()
_NUMBERS = (0, 1, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TEXTS = (b"", b"\0", b"text", b"GIF89a", b"\x7fELF", b"PK\3\4", b"<html>", b"ID3", b"\xff\xd8\xff", b"OggS")
_HEADS = (
    b"\0\0\0\x10ftypisom\0\0\0\0",
    b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov",
    b"\0\0\0\x01ftyp" + b"\xff" * 8,
    b"\x1a\x45\xdf\xa3",
    b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm",
    b"RIFF\x10\0\0\0AVI LIST",
    b"RIFF\xff\xff\xff\xffAVI ",
    b"RIFF\xff\xff\xff\xffWEBPVP8X",
    b"\0\0\1\xba",
    b"OggS\0\2" + b"\xff" * 21,
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c" + b"\xff" * 14,
    b"FLV\1\5\0\0\0\x09\0\0\0\0",
    b"GIF89a\xff\xff\xff\xff\xff",
    b"\xff\xd8\xff\xe0\xff\xff",
    b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR",
    (b"\x47\x40\0\x10" + bytes(184)) * 5,
    (b"\0\0\0\0\x47\x40\0\x10" + bytes(184)) * 5,
)


def good_clips(folder: Path) -> dict[str, bytes]:
    """Small clips by name, of every container and most codecs, and pictures, still and animated."""
    clips = {name: write_clip(folder / name, spec).read_bytes() for name, spec in _SPECS.items()}
    clips["theora.ogv"] = _THEORA.read_bytes()
    clips["hdr.mov"] = write_cells(folder / "hdr.mov", _HDR).read_bytes()
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    clips["fragments.mp4"] = write_clip(folder / "fragments.mp4", _SMALL, fragments).read_bytes()
    stream = clips["h264.ts"]
    packets = (stream[at : at + 188] for at in range(0, len(stream), 188))
    clips["h264.m2ts"] = b"".join(b"\0\0\1\2" + packet for packet in packets)
    frames = [Image.fromarray(picture(number, 64, 64)) for number in range(4)]
    for suffix in _PICTURES:
        frames[0].save(folder / f"still.{suffix}")
        clips[f"still.{suffix}"] = (folder / f"still.{suffix}").read_bytes()
    for suffix in _PICTURES[1:]:
        path = folder / f"moving.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, loop=0)
        clips[path.name] = path.read_bytes()
    listed = [clips[f"still.{suffix}"] for suffix in _PICTURES]
    clips["listed.pictures"] = picture_list.head(2.0) + b"".join(map(as_listed, listed))
    return clips


def as_listed(picture: bytes) -> bytes:
    """As it stands in a list of pictures."""
    writer = picture_list.PictureWriter()
    return writer.feed(picture) + writer.end()


def hostile_files(folder: Path, count: int = 500) -> list[bytes]:
    """So many, of every kind in turn; the first are those that abort decord."""
    found = [path.read_bytes() for path in HOSTILE]
    clips = good_clips(folder)
    linked = iter(playlists("/etc/passwd", "http://127.0.0.1:9/", clips["h264.mp4"]))
    kinds = [_cut(clips), _fields(clips), _heads(), _alone(folder), _sizes(clips), linked]
    while kinds and len(found) < count:
        for kind in [*kinds]:
            if (file := next(kind, None)) is None:
                kinds.remove(kind)
            else:
                found.append(file)
    return found[:count]


def mutants(folder: Path, count: int, seed: int = 20261130) -> Iterator[bytes]:
    """Clips with bytes changed, blocks moved, left out or put in twice, or their end cut off."""
    rng, clips = np.random.default_rng(seed), list(good_clips(folder).values())
    for number in range(count):
        data = bytearray(clips[number % len(clips)])
        for _ in range(int(rng.integers(1, 4))):
            _damage(data, rng)
        yield bytes(data)


def _damage(data: bytearray, rng: np.random.Generator) -> None:
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
    kind = rng.integers(8)
    if kind < 4:
        for place in rng.integers(len(data), size=int(rng.integers(1, 16))):
            data[place] = int(rng.integers(256))
    elif kind == 4:
        data[at : at + 4] = struct.pack(">I", int(rng.choice(np.array(_NUMBERS, np.int64))))
    elif kind == 5:
        del data[at : at + length]
    elif kind == 6:
        data[at:at] = data[at : at + length]
    elif len(data) > 400:
        del data[-int(rng.integers(1, 200)) :]


def _cut(clips: dict[str, bytes]) -> Iterator[bytes]:
    for share in range(1, 20):
        for data in clips.values():
            yield data[: len(data) * share // 20]


def _fields(clips: dict[str, bytes]) -> Iterator[bytes]:
    """A size or a first field of a box, replaced; the same in the other containers' own places."""
    for number in _NUMBERS:
        for name in _BOXES:
            for data in (clips["h264.mp4"], clips["turned.mp4"]):
                at = data.find(name)
                if at > 0:
                    word = struct.pack(">I", number)
                    yield data[: at - 4] + word + data[at:]
                    yield data[: at + 8] + word + data[at + 12 :]


def _sizes(clips: dict[str, bytes]) -> Iterator[bytes]:
    """Pictures of another size than the codec's own: huge, empty and one pixel wide."""
    for width, height in ((65535, 65535), (8192, 8192), (0, 0), (1, 1), (1, 65535), (16384, 16)):
        data = clips["h264.mp4"]
        at = data.find(b"avc1") + 28
        yield data[:at] + struct.pack(">HH", width, height) + data[at + 4 :]
        data = clips["mpeg4.avi"]
        at = data.find(b"strf") + 12
        yield data[:at] + struct.pack("<II", width, height) + data[at + 8 :]


def _heads() -> Iterator[bytes]:
    rng = np.random.default_rng(1)
    for length in (0, 1, 4, 60, 1000):
        for head in (*_HEADS, *_TEXTS):
            yield head + rng.bytes(length)


def _alone(folder: Path) -> Iterator[bytes]:
    yield write_sound(folder / "sound.mp4").read_bytes()
    yield write_cover(folder / "cover.mp4").read_bytes()
    yield write_clip(folder / "one.mp4", ClipSpec(num_frames=1)).read_bytes()
    yield write_clip(folder / "tiny.avi", ClipSpec(8, 8, 8, codec="mpeg4", options={})).read_bytes()
    yield write_clip(folder / "other.mkv", ClipSpec(8, codec="ffv1", options={})).read_bytes()
    yield write_clip(folder / "raw.avi", ClipSpec(8, codec="rawvideo", options={})).read_bytes()
    yield b"\0\0\0\x08free" * 200_000  # 1.6 MB of boxes
    yield b"\0\0\0\x08ftyp" + b"\0\0\0\x08moov" * 100_000


def playlists(path: str, url: str, clip: bytes) -> list[bytes]:
    """60 files that name another file or an address: texts, also behind a video's magic, and videos."""
    targets = (path, f"file://{path}", url)
    texts = [text for target in targets for text in _references(target)]
    disguises = (b"", b"\0\0\0\x08ftyp", b"\0\0\0\x14ftypisom\0\0\0\0isom" + b"\0\0\0\x08moov")
    linked = [with_data_elsewhere(clip, kind, target) for kind in (b"url ", b"alis") for target in targets]
    return [disguise + text for disguise in disguises for text in texts] + linked


def _references(target: str) -> list[bytes]:
    return [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n".encode(),
        f'#EXTM3U\n#EXT-X-MAP:URI="{target}"\n#EXTINF:1,\n{target}\n'.encode(),
        f"ffconcat version 1.0\nfile '{target}'\n".encode(),
        f'<?xml version="1.0"?><MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>'.encode(),
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\na=control:{target}\nm=video 9 RTP/AVP 96\n".encode(),
        f";FFMETADATA1\ntitle={target}\n".encode(),
    ]


def with_data_elsewhere(clip: bytes, kind: bytes, target: str) -> bytes:
    """An MP4 whose frames are said to lie in another file: its `dref` names one. The index must come last."""
    entry = kind + bytes(4) + target.encode() + b"\0"
    content = bytes(4) + struct.pack(">II", 1, 4 + len(entry)) + entry
    return _replaced(clip, [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"], content)


def _replaced(data: bytes, path: list[bytes], content: bytes) -> bytes:
    """The boxes, with other content in the one at this path, and the sizes of those around it mended."""
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == path[0]:
            old = data[at + 8 : at + size]
            new = _replaced(old, path[1:], content) if path[1:] else content
            return data[:at] + struct.pack(">I", 8 + len(new)) + path[0] + new + data[at + size :]
        at += size
    raise ValueError(path[0])
