"""Reads the requested frames with decord, after PyAV has checked the file.

H height, W width. decord's bundled FFmpeg is old and its worker threads abort on damaged files, so it
gets one thread and belongs in a disposable child process. It reads the file from memory and opens no path.
"""

import ctypes
from collections.abc import Sequence
from importlib import import_module
from os import SEEK_END
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from bt_model.errors import InvalidValueError
from bt_model.types import FrameSize
from bt_model.video import refusals
from bt_model.video.crop import centre
from bt_model.video.packets import Clip
from bt_model.video.refusals import DecodeLimits
from bt_model.video.square import Squarer, scaled_size

if TYPE_CHECKING:
    import numpy as np
    from decord import VideoReader
    from numpy.typing import NDArray

CONTAINERS = ("mp4", "matroska", "webm", "avi")


def read(
    file: BinaryIO, clip: Clip, indices: Sequence[int], sizes: Sequence[FrameSize], limits: DecodeLimits
) -> "list[dict[int, NDArray[np.uint8]]]":
    """For every size the requested frames (H, W, 3) by source index, without those that decord does not have.

    decord scales while it decodes, so it decodes the file once for each size.

    Raises:
        InvalidValueError: decord is not installed.
        VideoError: decord cannot read the file.
    """
    return [_read(file, clip, indices, size, limits) for size in sizes]


def _read(
    file: BinaryIO, clip: Clip, indices: Sequence[int], size: FrameSize, limits: DecodeLimits
) -> "dict[int, NDArray[np.uint8]]":
    is_padded = size.fit == "pad"
    scaled = clip.displayed if is_padded else scaled_size(*clip.displayed, size)
    decord = _decord()
    reader = _opened(decord, file, limits, scaled)
    known = sorted({i for i in indices if i < len(reader)})
    if not known:
        return {}
    try:
        if is_padded:  # one by one: whole frames of a clip may not fit in memory together
            squarer = Squarer(clip, size)
            return {i: squarer.pad(reader[i].asnumpy()) for i in known}
        frames: NDArray[np.uint8] = reader.get_batch(known).asnumpy()
    except decord.DECORDError:
        raise refusals.undecodable() from None
    read = zip(known, frames, strict=True)
    return {i: frame if size.fit == "whole" else centre(frame, size.side) for i, frame in read}


def recount(file: BinaryIO, clip: Clip, limits: DecodeLimits) -> Clip:
    """The clip with decord's frames, of which there may be fewer than packets.

    Raises:
        VideoError: decord has no frames.
    """
    total = len(_opened(_decord(), file, limits, (-1, -1)))
    if not 0 < total <= len(clip.times):
        raise refusals.undecodable()
    return clip.recounted(clip.times[:total])


def ffmpeg_version() -> str:
    """Of the FFmpeg inside decord, which has no function for it; imports decord.

    Raises:
        InvalidValueError: decord is not installed.
    """
    _decord()
    tell = import_module("decord._ffi.base")._LIB.av_version_info
    tell.restype = ctypes.c_char_p
    return tell().decode()


def _decord() -> ModuleType:
    try:
        return import_module("decord")
    except ImportError:
        raise InvalidValueError(
            "reader is 'decord', which is not installed (pip install 'btchat[decord]'); allowed: 'pyav'",
            param="reader",
        ) from None


def _opened(decord: ModuleType, file: BinaryIO, limits: DecodeLimits, size: tuple[int, int]) -> "VideoReader":
    num_bytes = file.seek(0, SEEK_END)
    if num_bytes > limits.max_file_bytes:
        raise refusals.too_large("bytes in the file for decord", num_bytes, limits.max_file_bytes)
    file.seek(0)
    try:
        return decord.VideoReader(file, width=size[0], height=size[1], num_threads=1)
    except (decord.DECORDError, RuntimeError, AssertionError):
        raise refusals.undecodable() from None
