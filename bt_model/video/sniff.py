"""Which container a file is, by its first bytes, and whether it is complete.

FFmpeg's own detection would open playlists that name other files, so the demuxer is chosen here.
"""

import os
from functools import partial
from typing import BinaryIO, Literal

from bt_model.video import refusals

Container = Literal["mp4", "matroska", "webm", "avi", "mpegts", "mpeg"]

DEMUXERS: dict[Container, str] = {
    "mp4": "mov",
    "matroska": "matroska",
    "webm": "matroska",
    "avi": "avi",
    "mpegts": "mpegts",
    "mpeg": "mpeg",
}
HEAD_BYTES = 64

_MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_BOX_HEADER = 8
_LARGE_SIZE = 1  # a box size of 1: the real one follows in 8 bytes
_TO_THE_END = 0  # a box size of 0: up to the end of the file
_MAX_BOXES = 1_000_000


def container_of(head: bytes) -> Container | None:
    """The container that a file starting with `head` (64 bytes are enough) claims to be."""
    if head[4:8] in _MP4_FIRST_BOXES:
        return "mp4"
    if head[:4] == _EBML:
        return "webm" if b"webm" in head[:HEAD_BYTES] else "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return None


def sniff(file: BinaryIO, max_boxes: int = _MAX_BOXES) -> Container:
    """The container of an open file; leaves the file at its start.

    Args:
        file: is read at its start and at the heads of its parts.
        max_boxes: most parts of an MP4 that are looked at; what has more is taken for whole.

    Raises:
        VideoError: codes `empty_file`, `unsupported_media`, `truncated_video`.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    if num_bytes == 0:
        raise refusals.empty_file()
    file.seek(0)
    head = file.read(HEAD_BYTES)
    container = container_of(head)
    if container is None:
        raise refusals.unsupported_container()
    mp4_is_whole = partial(_mp4_is_whole, max_boxes=max_boxes)
    whole = {"mp4": mp4_is_whole, "avi": _avi_is_whole}.get(container, _matroska_is_whole)
    if not whole(file, num_bytes):
        raise refusals.cut_off()
    file.seek(0)
    return container


def _mp4_is_whole(file: BinaryIO, num_bytes: int, max_boxes: int) -> bool:
    """Whether there is an index and no relevant box extends beyond the end of the file."""
    position, has_index = 0, False
    for _ in range(max_boxes):
        if position > num_bytes:  # perhaps farther than a file can be
            break
        file.seek(position)
        header = file.read(_BOX_HEADER)
        if len(header) < _BOX_HEADER:
            break
        size, kind = int.from_bytes(header[:4], "big"), header[4:]
        least = _BOX_HEADER
        if size == _LARGE_SIZE:
            size, least = int.from_bytes(file.read(8), "big"), 2 * _BOX_HEADER
        elif size == _TO_THE_END:
            size = num_bytes - position
        if size < least:
            break  # invalid data after the last box
        if kind in (b"moov", b"mdat", b"moof") and position + size > num_bytes:
            return False
        has_index |= kind == b"moov"
        position += size
    else:
        return True
    return has_index


def _matroska_is_whole(file: BinaryIO, num_bytes: int) -> bool:
    """Whether the segment's size, if known, fits in the file; live recordings have no size."""
    file.seek(len(_EBML))
    header_size = _read_size(file)
    if header_size is None:
        return True
    if header_size > num_bytes:
        return False
    file.seek(header_size, os.SEEK_CUR)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return file.tell() < num_bytes
    size = _read_size(file)
    return size is None or file.tell() + size <= num_bytes


def _read_size(file: BinaryIO) -> int | None:
    """An EBML size: the number of leading zero bits tells its length; all ones means unknown."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] ^ (0x80 >> extra)]) + file.read(extra), "big")
    return None if value == (1 << 7 * (extra + 1)) - 1 else value


def _avi_is_whole(file: BinaryIO, num_bytes: int) -> bool:
    """Whether the RIFF list ends within the file."""
    file.seek(4)
    return int.from_bytes(file.read(4), "little") + _BOX_HEADER <= num_bytes
