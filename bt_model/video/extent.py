"""How many bytes a file has by its own account: what it lacks was cut off.

Each function gives at least the bytes that there are where the file says nothing; one more where just its end
is known to be missing.
"""

import os
from collections.abc import Callable, Mapping
from typing import BinaryIO

from bt_model.video import refusals
from bt_model.video.formats import HEAD_BYTES, Container, ts_packet_bytes

_BOX_HEADER = 8
_LARGE_SIZE = 1  # a box size of 1: the real one follows in 8 bytes
_TO_THE_END = 0  # a box size of 0: up to the end of the file
_SEGMENT = b"\x18\x53\x80\x67"
_EBML_BYTES = 4
_ASF_HEADER, _ASF_OBJECT = 30, 24
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_FILE_BYTES = 104
_FLV_HEADER, _FLV_TAG = 9, 11
_OGG_PAGE, _OGG_LAST = 27, 4  # bytes of a page's head, and the mark of a stream's last page
_TAIL_BYTES = 128 * 1024  # an Ogg page has 65,307 at most


def expected_bytes(file: BinaryIO, container: Container, num_bytes: int, max_parts: int) -> int:
    """Bytes of a whole file that begins as this one.

    Raises:
        VideoError: an MP4 without its index, `truncated_video`.
    """
    of_container = _EXTENTS.get(container)
    return of_container(file, num_bytes, max_parts) if of_container else num_bytes


def _of_mp4(file: BinaryIO, num_bytes: int, max_parts: int) -> int:
    """Up to the end of the last box of frames; without an index there is nothing to use."""
    position, end, has_index = 0, num_bytes, False
    for _ in range(max_parts):
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
        position += size
        has_index |= kind == b"moov" and position <= num_bytes
        if kind in (b"mdat", b"moof"):
            end = max(end, position)
    else:
        return end
    if not has_index:
        raise refusals.cut_off()
    return end


def _of_matroska(file: BinaryIO, num_bytes: int, _max_parts: int) -> int:
    """By the segment's size, if known; live recordings have none."""
    file.seek(_EBML_BYTES)
    header_bytes = _ebml_size(file)
    if header_bytes is None:
        return num_bytes
    if file.tell() + header_bytes > num_bytes:
        return file.tell() + header_bytes
    file.seek(header_bytes, os.SEEK_CUR)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return num_bytes + (file.tell() >= num_bytes)
    size = _ebml_size(file)
    return num_bytes if size is None else max(num_bytes, file.tell() + size)


def _ebml_size(file: BinaryIO) -> int | None:
    """The number of leading zero bits tells its length; all ones means unknown."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] ^ (0x80 >> extra)]) + file.read(extra), "big")
    return None if value == (1 << 7 * (extra + 1)) - 1 else value


def _of_riff(file: BinaryIO, num_bytes: int, max_parts: int) -> int:
    """Up to the end of the last RIFF list; large AVI files have several."""
    end = 0
    for _ in range(max_parts):
        file.seek(end + end % 2)
        header = file.read(_BOX_HEADER)
        if header[:4] != b"RIFF":
            break
        end += end % 2 + _BOX_HEADER + int.from_bytes(header[4:], "little")
    return max(num_bytes, end)


def _of_asf(file: BinaryIO, num_bytes: int, max_parts: int) -> int:
    """By the file's properties, which a broadcast does not know."""
    position = _ASF_HEADER
    for _ in range(min(max_parts, num_bytes // _ASF_OBJECT)):
        file.seek(position)
        properties = file.read(_ASF_FILE_BYTES)
        if len(properties) < _ASF_FILE_BYTES:
            break
        if properties[:16] == _ASF_FILE:
            is_broadcast = properties[88] & 1
            return num_bytes if is_broadcast else max(num_bytes, int.from_bytes(properties[40:48], "little"))
        position += max(int.from_bytes(properties[16:24], "little"), _ASF_OBJECT)
        if position > num_bytes:
            break
    return num_bytes


def _of_flv(file: BinaryIO, num_bytes: int, max_parts: int) -> int:
    """Up to the end of the last tag and of its length, which stands behind it."""
    last = int.from_bytes(_tail(file, num_bytes)[-4:], "big")
    if last >= _FLV_TAG and last + 4 <= num_bytes:
        file.seek(num_bytes - 4 - last)
        if int.from_bytes(file.read(4)[1:], "big") + _FLV_TAG == last:
            return num_bytes
    position = _FLV_HEADER + 4
    for _ in range(max_parts):
        if position >= num_bytes:
            break
        file.seek(position)
        position += _FLV_TAG + int.from_bytes(file.read(4)[1:], "big") + 4
    return max(num_bytes, position)


def _of_ogg(file: BinaryIO, num_bytes: int, _max_parts: int) -> int:
    """Up to the end of the last page, which is marked as such."""
    tail = _tail(file, num_bytes)
    at = tail.rfind(b"OggS")
    if at < 0:
        return num_bytes
    page = tail[at:]
    if len(page) < _OGG_PAGE or len(page) < _OGG_PAGE + page[26]:
        return num_bytes + 1
    end = num_bytes - len(page) + _OGG_PAGE + page[26] + sum(page[27 : 27 + page[26]])
    return max(num_bytes if page[5] & _OGG_LAST else num_bytes + 1, end)


def _of_mpegts(file: BinaryIO, num_bytes: int, _max_parts: int) -> int:
    """Whole packets."""
    file.seek(0)
    return num_bytes + -num_bytes % (ts_packet_bytes(file.read(HEAD_BYTES)) or 1)


def _up_to(mark: bytes) -> Callable[[BinaryIO, int, int], int]:
    """Up to an end mark, behind which there may be something else."""
    return lambda file, num_bytes, _max_parts: num_bytes + (mark not in _tail(file, num_bytes))


def _of_gif(file: BinaryIO, num_bytes: int, _max_parts: int) -> int:
    return num_bytes + (not _tail(file, num_bytes).rstrip(b"\0").endswith(b";"))


def _tail(file: BinaryIO, num_bytes: int) -> bytes:
    file.seek(max(0, num_bytes - _TAIL_BYTES))
    return file.read(_TAIL_BYTES)


_EXTENTS: Mapping[Container, Callable[[BinaryIO, int, int], int]] = {
    "mp4": _of_mp4,
    "matroska": _of_matroska,
    "webm": _of_matroska,
    "avi": _of_riff,
    "webp": _of_riff,
    "mpegts": _of_mpegts,
    "asf": _of_asf,
    "flv": _of_flv,
    "ogg": _of_ogg,
    "gif": _of_gif,
    "jpeg": _up_to(b"\xff\xd9"),
    "png": _up_to(b"IEND"),
}  # a program stream may end anywhere
