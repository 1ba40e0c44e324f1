"""How stored pixels are turned for display, as a container says.

H height, W width.
"""

import struct
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_MATRIX = struct.Struct("=9i")
_Level = TypeVar("_Level", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels are turned for display: transpose first, then mirror left-right, then top-bottom."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def degrees(self) -> int:
        """Clockwise rotation for display, 0, 90, 180 or 270; mirroring is not part of it."""
        if self.transpose:
            return 270 if self.mirror_y else 90
        return 180 if self.mirror_y else 0

    def displayed(self, width: int, height: int) -> tuple[int, int]:
        """Stored width and height -> displayed width and height; it is its own inverse."""
        return (height, width) if self.transpose else (width, height)

    def apply(self, pixels: NDArray[_Level]) -> NDArray[_Level]:
        """(H, W, 3) as stored -> (H, W, 3) as shown."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        if self.mirror_x:
            pixels = pixels[:, ::-1]
        return pixels[::-1] if self.mirror_y else pixels


_QUARTERS = {
    90: Orientation(transpose=True, mirror_x=True),
    180: Orientation(mirror_x=True, mirror_y=True),
    270: Orientation(transpose=True, mirror_y=True),
}


def turned_by(degrees: int) -> Orientation:
    """Clockwise for display, in quarter turns."""
    return _QUARTERS.get(degrees % 360, Orientation())


def orientation_of(matrix: bytes | None) -> Orientation:
    """From a container's display matrix: a stored point (x, y) is shown at (a x + c y, b x + d y)."""
    if matrix is None or len(matrix) != _MATRIX.size:
        return Orientation()
    a, b, _, c, d, *_ = _MATRIX.unpack(matrix)
    if abs(b) > abs(a):
        return Orientation(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
    return Orientation(mirror_x=a < 0, mirror_y=d < 0)
