"""Pictures that are sent one by one, as one file: what makes it knows nothing of what is in them.

16 bytes that tell it apart and have its rate, then each picture's length in 4 bytes, and the picture.
"""

import math
import struct
from collections.abc import Iterator
from os import SEEK_END
from typing import BinaryIO

MAGIC = b"\x89PICTS\r\n"

_RATE = struct.Struct(">d")
_LENGTH = struct.Struct(">I")


def head(fps: float) -> bytes:
    """What the file begins with; `fps` pictures are shown in a second."""
    return MAGIC + _RATE.pack(fps)


def entry(picture: bytes) -> bytes:
    """One picture, as it stands in the file."""
    return _LENGTH.pack(len(picture)) + picture


def rate_of(file: BinaryIO) -> float:
    """Pictures a second, 0 if it says none; leaves the file before its first picture."""
    file.seek(len(MAGIC))
    stored = file.read(_RATE.size)
    (fps,) = _RATE.unpack(stored) if len(stored) == _RATE.size else (0.0,)
    return fps if math.isfinite(fps) else 0.0


def pictures_of(file: BinaryIO) -> Iterator[bytes]:
    """The pictures from where the file stands, up to the first that is not complete."""
    place = file.tell()
    end = file.seek(0, SEEK_END)
    file.seek(place)
    while len(stored := file.read(_LENGTH.size)) == _LENGTH.size:
        (num_bytes,) = _LENGTH.unpack(stored)
        place += _LENGTH.size + num_bytes
        if place > end:
            return
        yield file.read(num_bytes)
