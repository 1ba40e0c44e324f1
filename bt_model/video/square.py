"""Decoded frames to upright SDR squares of one size, or uncropped with a shorter side of that size; bicubic.

H height, W width.
"""

from typing import Any, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from bt_model.types import FrameSize
from bt_model.video.crop import centre
from bt_model.video.packets import Clip
from bt_model.video.tone import Tone

UNCROPPED = ("whole", "wide")
"""Sizes of the whole picture, which is no square."""

PAD_COLOUR = (122, 116, 104)  # CLIP's mean, so that the bars are zero after normalisation


class Squarer:
    """Resizes the frames of one clip to one size; reuses the scaler between them.

    Frames are scaled as they are stored, and only the small picture is converted to SDR.
    """

    def __init__(self, clip: Clip, size: FrameSize) -> None:
        self._orientation = clip.orientation
        self._size = size
        self._tone = Tone(clip.picture)
        self.stored = clip.orientation.displayed(*self._upright(clip))
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """A stored frame -> (side, side, 3) as displayed; (H, W, 3) for a size that is uncropped."""
        return self.finished(self._scaled(frame, *self.stored, self._tone.pixel_format))

    def finished(self, pixels: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.uint8]:
        """The same for pixels that are scaled to the width and height `stored` already."""
        shown = self._orientation.apply(pixels)
        if self._size.fit == "pad":
            return self._pad(self._tone(shown))
        return self._tone(shown if self._size.fit in UNCROPPED else centre(shown, self._size.side))

    def _pad(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        square = VideoFrame.from_ndarray(padded(pixels), format="rgb24")
        return self._scaled(square, self._size.side, self._size.side, "rgb24").astype(np.uint8, copy=False)

    def _upright(self, clip: Clip) -> tuple[int, int]:
        """Width and height of the whole picture before it is cropped or padded."""
        if self._size.fit != "pad":
            return scaled_size(*clip.displayed, self._size)
        if not self._tone.is_needed:
            return clip.displayed  # padded first, so that scaling blends the edges of the bars
        scale = min(
            1, self._size.side / max(clip.displayed)
        )  # converting whole frames would cost more than decoding
        width, height = (max(1, round(length * scale)) for length in clip.displayed)
        return width, height

    def _scaled(
        self, frame: VideoFrame, width: int, height: int, pixel_format: str
    ) -> NDArray[np.unsignedinteger[Any]]:
        scaled = self._scaler.reformat(frame, width, height, pixel_format, interpolation="BICUBIC", threads=1)
        return cast("NDArray[np.unsignedinteger[Any]]", scaled.to_ndarray())


def scaled_size(width: int, height: int, size: FrameSize) -> tuple[int, int]:
    """Width and height of a displayed frame scaled before the crop, or padded before scaling."""
    if size.fit == "squash":
        return size.side, size.side
    if size.fit == "pad":
        return max(width, height), max(width, height)
    if size.fit == "wide":
        return size.side, max(1, round(height * size.side / width))
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
