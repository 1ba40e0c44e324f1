"""Decoded frames to upright squares of one size, or whole with a shorter side of that size; bicubic.

H height, W width.
"""

from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from bt_model.types import FrameSize
from bt_model.video.clip import Clip
from bt_model.video.fit import centre, padded, scaled_size


class Squarer:
    """Brings the frames of one clip to one size; keeps the scaler between them."""

    def __init__(self, clip: Clip, size: FrameSize) -> None:
        self._orientation = clip.orientation
        self._size = size
        displayed = clip.orientation.displayed(clip.width, clip.height)
        self._stored = clip.orientation.displayed(*scaled_size(*displayed, size))
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """A frame as stored -> (side, side, 3) as shown; (H, W, 3) where nothing is to be cut off."""
        if self._size.fit == "pad":  # bars are part of what is scaled: their edges are blended
            colours = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
            return self.pad(self._orientation.apply(colours))
        shown = self._orientation.apply(self._scaled(frame, *self._stored))
        return shown if self._size.fit == "whole" else centre(shown, self._size.side)

    def pad(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) as shown -> (side, side, 3) with bars."""
        square = VideoFrame.from_ndarray(padded(pixels), format="rgb24")
        return self._scaled(square, self._size.side, self._size.side)

    def _scaled(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        scaled = self._scaler.reformat(frame, width, height, "rgb24", interpolation="BICUBIC", threads=1)
        return cast("NDArray[np.uint8]", scaled.to_ndarray())
