"""Decoded frames to upright squares of one size, or uncropped with a shorter side of that size; bicubic.

H height, W width.
"""

from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from bt_model.types import FrameSize
from bt_model.video.crop import centre
from bt_model.video.packets import Clip

PAD_COLOUR = (122, 116, 104)  # CLIP's mean, so that the bars are zero after normalisation


class Squarer:
    """Resizes the frames of one clip to one size; reuses the scaler between them."""

    def __init__(self, clip: Clip, size: FrameSize) -> None:
        self._orientation = clip.orientation
        self._size = size
        upright = clip.displayed if size.fit == "pad" else scaled_size(*clip.displayed, size)
        self._stored = clip.orientation.displayed(*upright)
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """A stored frame -> (side, side, 3) as displayed; (H, W, 3) for size `whole`."""
        shown = self._orientation.apply(self._scaled(frame, *self._stored))
        if self._size.fit == "pad":  # pad first, so that scaling blends the edges of the bars
            return self.pad(shown)
        return shown if self._size.fit == "whole" else centre(shown, self._size.side)

    def pad(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) as displayed -> (side, side, 3) with bars."""
        square = VideoFrame.from_ndarray(padded(pixels), format="rgb24")
        return self._scaled(square, self._size.side, self._size.side)

    def _scaled(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        scaled = self._scaler.reformat(frame, width, height, "rgb24", interpolation="BICUBIC", threads=1)
        return cast("NDArray[np.uint8]", scaled.to_ndarray())


def scaled_size(width: int, height: int, size: FrameSize) -> tuple[int, int]:
    """Width and height of a displayed frame scaled before the crop, or padded before scaling."""
    if size.fit == "squash":
        return size.side, size.side
    if size.fit == "pad":
        return max(width, height), max(width, height)
    shorter = min(width, height)
    if size.fit == "whole":  # the published retrieval pipeline rounds to nearest, CLIP's processor down
        scale = size.side / shorter
        return int(width * scale + 0.5), int(height * scale + 0.5)
    return max(size.side, width * size.side // shorter), max(size.side, height * size.side // shorter)


def padded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) -> the middle of a square of the longer side; an odd bar is larger right and below."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), PAD_COLOUR, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square
