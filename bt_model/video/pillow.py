"""What Pillow has of a picture, as every reader tells it."""

import struct
from collections.abc import Sequence

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from bt_model.video import refusals
from bt_model.video.facts import Picture
from bt_model.video.formats import Container
from bt_model.video.orientation import Orientation
from bt_model.video.packets import Clip
from bt_model.video.refusals import DecodeLimits

PLUGINS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
BROKEN = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for a file that is damaged."""


def clip_of(
    container: Container,
    size: tuple[int, int],
    picture: Picture,
    clock: Sequence[float],
    fps: float,
    limits: DecodeLimits,
) -> Clip:
    """A clip of upright pictures of this width and height; in `clock` each begins, and the last one ends.

    Raises:
        VideoLimitError: they last too long.
    """
    *times, seconds = clock
    if seconds > limits.max_seconds:
        raise refusals.too_large("seconds of video", seconds, limits.max_seconds)
    return Clip(
        container=container,
        codec=container,
        width=size[0],
        height=size[1],
        orientation=Orientation(),
        picture=picture,
        has_audio=False,
        header_fps=fps,
        times=times,
        seconds=seconds,
        labels=None,
        pts=[None] * len(times),
        keys=[0],
    )


def picture_of(image: Image.Image) -> Picture:
    return Picture(
        pix_fmt=_pixel_format(image),
        sample_aspect_ratio="1:1",
        color_range="pc",
        color_space="gbr",
        color_transfer="iec61966-2-1",
        color_primaries="bt709",
        tone_mapped=False,
        deinterlaced=False,
    )


def video_frame(image: Image.Image) -> VideoFrame:
    """Pixels as they are stored, with their transparency."""
    pixel_format = _pixel_format(image)
    if pixel_format == "gray":
        pixels = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
    else:
        pixels = np.asarray(image.convert("RGBA" if pixel_format == "rgba" else "RGB"))
    return VideoFrame.from_ndarray(pixels, format=pixel_format)


def _pixel_format(image: Image.Image) -> str:
    if image.mode.startswith("I"):  # grey of 16 bits
        return "gray"
    return "rgba" if image.has_transparency_data else "rgb24"
