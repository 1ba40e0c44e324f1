"""What is read: containers, known by bytes at fixed places, and codecs.

FFmpeg's own detection would open playlists that name other files, so nothing is asked of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bt_model.video.picture_list import MAGIC

Container = Literal[
    "mp4",
    "matroska",
    "webm",
    "avi",
    "mpegts",
    "mpeg",
    "ogg",
    "asf",
    "flv",
    "gif",
    "jpeg",
    "png",
    "webp",
    "pictures",
]
HEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Format:
    """A container: its name, usual ends of file names, and FFmpeg's demuxer; without one Pillow reads it."""

    name: str
    suffixes: str
    demuxer: str = ""


FORMATS: Mapping[Container, Format] = {
    "mp4": Format("MP4, QuickTime", "mp4, mov, m4v, 3gp", "mov"),
    "matroska": Format("Matroska", "mkv", "matroska"),
    "webm": Format("WebM", "webm", "matroska"),
    "avi": Format("AVI", "avi", "avi"),
    "mpegts": Format("MPEG transport stream", "ts, m2ts, mts", "mpegts"),
    "mpeg": Format("MPEG program stream", "mpg, vob", "mpeg"),
    "ogg": Format("Ogg", "ogv", "ogg"),
    "asf": Format("ASF", "wmv, asf", "asf"),
    "flv": Format("Flash video", "flv", "flv"),
    "gif": Format("GIF", "gif", "gif"),
    "jpeg": Format("JPEG", "jpg"),
    "png": Format("PNG, animated or still", "png"),
    "webp": Format("WebP, animated or still", "webp"),
    "pictures": Format("pictures in a data URL", "data:video/jpeg"),
}
CODECS: Mapping[str, str] = {
    "h264": "h264",
    "hevc": "hevc",
    "vp8": "vp8",
    "vp9": "vp9",
    "av1": "libdav1d,av1",
    "mpeg4": "mpeg4",
    "mpeg2video": "mpeg2video",
    "mpeg1video": "mpeg1video",
    "mjpeg": "mjpeg",
    "prores": "prores",
    "dnxhd": "dnxhd",
    "h263": "h263",
    "flv1": "flv",
    "theora": "theora",
    "wmv1": "wmv1",
    "wmv2": "wmv2",
    "wmv3": "wmv3",
    "vc1": "vc1",
    "msmpeg4v2": "msmpeg4v2",
    "msmpeg4v3": "msmpeg4",
    "ffv1": "ffv1",
    "gif": "gif",
}
"""Codecs by the names that FFmpeg has for them, and for their decoders."""

_MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_STILL_BRANDS = tuple(b"ftyp" + brand for brand in (b"avif", b"heic", b"heix", b"heif", b"mif1"))
_EBML_HEAD = 64
_STARTS: Mapping[bytes, Container] = {
    b"\x00\x00\x01\xba": "mpeg",
    b"OggS": "ogg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c": "asf",
    b"FLV\x01": "flv",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    MAGIC: "pictures",
}
_RIFFS: Mapping[bytes, Container] = {b"AVI ": "avi", b"WEBP": "webp"}
_TS_SYNC = 0x47
_TS_LAYOUTS = ((188, 0), (192, 4), (204, 0))  # bytes of a packet and of what stands before its first
_TS_LEAST_PACKETS = 4


def container_of(head: bytes) -> Container | None:
    """The container that a file starting with `head` (at most HEAD_BYTES are looked at) claims to be."""
    if head[4:8] in _MP4_FIRST_BOXES:
        return None if head[4:12] in _STILL_BRANDS else "mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "webm" if b"webm" in head[:_EBML_HEAD] else "matroska"
    if head[:4] == b"RIFF":
        return _RIFFS.get(head[8:12])
    for start, container in _STARTS.items():
        if head.startswith(start):
            return container
    return "mpegts" if ts_packet_bytes(head) else None


def ts_packet_bytes(head: bytes) -> int | None:
    """Bytes of each packet of an MPEG transport stream (192 with the times of M2TS); None if it is none."""
    for length, before in _TS_LAYOUTS:
        syncs = head[before:HEAD_BYTES:length]
        if len(syncs) >= _TS_LEAST_PACKETS and set(syncs) == {_TS_SYNC}:
            return length
    return None


def accepted_containers() -> str:
    """All of them with their suffixes, for people."""
    return "; ".join(f"{each.name} ({each.suffixes})" for each in FORMATS.values())
