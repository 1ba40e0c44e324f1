"""How one decoded frame becomes an upright square: orientation, size to scale to, centre crop, bars.

H height, W width.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bt_model.types import FrameSize

PAD_COLOUR = (122, 116, 104)  # CLIP's mean, so that the bars are zero after normalisation

_MATRIX = struct.Struct("=9i")


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels are turned for display: transpose first, then mirror left-right, then top-bottom."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def degrees(self) -> int:
        """Clockwise turn for display, 0, 90, 180 or 270; of a mirror image, the turn without its mirror."""
        if self.transpose:
            return 270 if self.mirror_y else 90
        return 180 if self.mirror_y else 0

    def displayed(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown, of a stored width and height; its own inverse."""
        return (height, width) if self.transpose else (width, height)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) as stored -> (H, W, 3) as shown."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        if self.mirror_x:
            pixels = pixels[:, ::-1]
        return pixels[::-1] if self.mirror_y else pixels


def orientation_of(matrix: bytes | None) -> Orientation:
    """From a container's display matrix: a stored point (x, y) is shown at (a x + c y, b x + d y)."""
    if matrix is None or len(matrix) != _MATRIX.size:
        return Orientation()
    a, b, _, c, d, *_ = _MATRIX.unpack(matrix)
    if abs(b) > abs(a):
        return Orientation(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
    return Orientation(mirror_x=a < 0, mirror_y=d < 0)


def scaled_size(width: int, height: int, size: FrameSize) -> tuple[int, int]:
    """Width and height of a displayed frame before the crop; of a padded one before it is scaled."""
    if size.fit == "squash":
        return size.side, size.side
    if size.fit == "pad":
        return max(width, height), max(width, height)
    shorter = min(width, height)
    return max(size.side, width * size.side // shorter), max(size.side, height * size.side // shorter)


def centre(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(H, W, 3) -> its middle (side, side, 3); an odd margin leaves the extra pixel right and below."""
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


def padded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) -> the middle of a square of the longer side; an odd bar is larger right and below."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), PAD_COLOUR, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square
