"""Pictures that are sent one by one, as one file: what makes it knows nothing of what is in them.

16 bytes that tell it apart and have its rate, then each picture in blocks, their lengths in 2 bytes before
them; one that is not full is a picture's last. So a picture is written while it comes, the same bytes
whatever the pieces that it comes in.
"""

import io
import math
import struct
from collections.abc import Iterator
from typing import BinaryIO

from bt_model.types import MAX_FPS

MAGIC = b"\x89PICTS\r\n"
MIN_FPS = 1 / 3600
ALLOWED_FPS = f"1/3600 to {MAX_FPS}"

_RATE = struct.Struct(">d")
_LENGTH = struct.Struct(">H")
_FULL = 0xFFFF


def head(fps: float) -> bytes:
    """What the file begins with; `fps` pictures are shown in a second."""
    return MAGIC + _RATE.pack(fps)


class PictureWriter:
    """One picture as it stands in the file, made while it comes."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._begun = b""  # of a block

    def feed(self, data: bytes) -> bytes:
        """The blocks that are full now."""
        self.num_bytes += len(data)
        data = self._begun + data
        end = len(data) - len(data) % _FULL
        self._begun = data[end:]
        return b"".join(_block(data[place : place + _FULL]) for place in range(0, end, _FULL))

    def end(self) -> bytes:
        """The last block."""
        return _block(self._begun)


def is_rate(fps: float) -> bool:
    """Whether pictures may come so often: slower, a few of them would last for ever."""
    return MIN_FPS <= fps <= MAX_FPS


def rate_of(file: BinaryIO) -> float:
    """Pictures a second, not a number if it says none; leaves the file before its first picture."""
    file.seek(len(MAGIC))
    stored = file.read(_RATE.size)
    return float(_RATE.unpack(stored)[0]) if len(stored) == _RATE.size else math.nan


def pictures_of(file: BinaryIO) -> Iterator[BinaryIO]:
    """The pictures from where the file stands, up to the first that is not complete."""
    picture = io.BytesIO()
    while len(stored := file.read(_LENGTH.size)) == _LENGTH.size:
        (num_bytes,) = _LENGTH.unpack(stored)
        block = file.read(num_bytes)
        if len(block) < num_bytes:
            return
        picture.write(block)
        if num_bytes < _FULL:
            yield picture
            picture = io.BytesIO()


def _block(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data
