"""Reads the requested frames with decord, where it is sure which frame is which.

decord seeks a key packet and counts frames from there, so a wrong place or count is a wrong picture. Here it
never seeks: it gets each group of packets that is needed as a file of its own, and must give one frame for
each packet, without an error. Its bundled FFmpeg is old and may crash on damaged packets, so it gets one
thread and belongs in a disposable child process.

H height, W width.
"""

import ctypes
import io
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import import_module
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import av
from av.packet import Packet
from av.video.stream import VideoStream

from bt_model.errors import InvalidValueError, VideoError
from bt_model.types import FrameSize
from bt_model.video.attempt import Attempt
from bt_model.video.frame import is_plain
from bt_model.video.opening import opened_video, packets_of
from bt_model.video.packets import Clip
from bt_model.video.refusals import DecodeLimits
from bt_model.video.square import Squarer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TICK = Fraction(1, 25)  # any would do: only the order counts
_MOST_BYTES = 256 * 1024**2  # of a group, which lies in memory three times
_LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_LOG_ERROR = 16
_NO_COPIES = 1e-9  # the share of frames that may be copies of others, where decord lacks some


class _UnsureError(Exception):
    """It cannot be told which of decord's frames is which."""


class _ErrorLog:
    """Counts what the FFmpeg inside decord logs as errors, which is all that tells of damage."""

    def __init__(self) -> None:
        self.count = 0
        self._callback = _LOG_CALLBACK(self._note)  # must live as long as it may be called
        _library().av_log_set_callback(self._callback)

    def _note(self, _context: int, level: int, _text: bytes, _values: int) -> None:
        self.count += level <= _LOG_ERROR


@dataclass(frozen=True, slots=True)
class _Group:
    """Packets from a key packet to the last one needed, of which none shown before the key packet is decoded.

    `stamps` are the timestamps of its frames in display order, `wanted` the source indices by place in them.
    """

    packets: range
    stamps: Sequence[int]
    wanted: Mapping[int, int]


def read(
    file: BinaryIO,
    clip: Clip,
    indices: Sequence[int],
    sizes: Sequence[FrameSize],
    limits: DecodeLimits,
    attempt: Attempt,
) -> "list[dict[int, NDArray[np.uint8]]] | None":
    """For every size the requested frames (H, W, 3) by source index; None where decord is not sure of them.

    decord scales while it decodes, so it decodes the packets once for each size. When the attempt is over,
    all that are not there are left out.

    Raises:
        InvalidValueError: decord is not installed.
    """
    decord = _decord()
    if not is_plain(clip):
        return None
    squarers = [Squarer(clip, size) for size in sizes]
    found: list[dict[int, NDArray[np.uint8]]] = [{} for _ in sizes]
    log = _error_log()
    errors_before = log.count
    try:
        groups = _groups(clip, indices)
        with opened_video(file, clip.container, limits) as (opened, stream):
            packets, position = packets_of(opened, stream), 0
            for group in groups:
                stored = islice(packets, group.packets.start - position, group.packets.stop - position)
                position = group.packets.stop
                data = _file_of(group, stored, stream)
                for by_index, squarer in zip(found, squarers, strict=True):
                    by_index.update(_frames(decord, data, group, squarer))
                attempt.found(len(found[0]))
                if attempt.is_over:
                    break
    except (_UnsureError, decord.DECORDError, decord.DECORDLimitReachedError, VideoError, ValueError):
        return None
    return found if log.count == errors_before else None


def ffmpeg_version() -> str:
    """Of the FFmpeg inside decord, which has no function for it; imports decord.

    Raises:
        InvalidValueError: decord is not installed.
    """
    _decord()
    tell = _library().av_version_info
    tell.restype = ctypes.c_char_p
    return tell().decode()


def _library() -> ctypes.CDLL:
    return import_module("decord._ffi.base")._LIB


@cache
def _error_log() -> _ErrorLog:
    return _ErrorLog()


def _decord() -> ModuleType:
    try:
        return import_module("decord")
    except ImportError:
        raise InvalidValueError(
            "reader is 'decord', which is not installed (pip install 'btchat[decord]'); allowed: 'pyav'",
            param="reader",
        ) from None


def _groups(clip: Clip, indices: Iterable[int]) -> list[_Group]:
    """What is to be decoded, in the order in which it is stored.

    Raises:
        _UnsureError: frames without timestamps of their own, or one that needs the group before its own.
    """
    if clip.labels is None:
        raise _UnsureError
    ordinals = {stamp: ordinal for ordinal, stamp in enumerate(clip.pts)}
    groups: dict[int, dict[int, int]] = {}  # indices by packet
    for index in set(indices):
        ordinal = ordinals[clip.labels[index]]
        groups.setdefault(bisect_right(clip.keys, ordinal) - 1, {})[ordinal] = index
    return [_group(clip, number, wanted) for number, wanted in sorted(groups.items())]


def _group(clip: Clip, number: int, wanted: Mapping[int, int]) -> _Group:
    key = clip.keys[number] if number >= 0 else 0
    packets = range(key, max(wanted) + 1)
    first = clip.pts[key]
    stamps = [stamp for i in packets if (stamp := clip.pts[i]) is not None]
    stamps = sorted(stamp for stamp in stamps if first is not None and stamp >= first)
    places: dict[int | None, int] = {stamp: place for place, stamp in enumerate(stamps)}
    if number < 0 or len(places) < len(stamps) or any(clip.pts[i] not in places for i in wanted):
        raise _UnsureError
    return _Group(packets, stamps, {places[clip.pts[i]]: index for i, index in wanted.items()})


def _file_of(group: _Group, stored: Iterable["Packet[VideoStream]"], stream: VideoStream) -> io.BytesIO:
    """A group alone, stamped anew: a container, too, must leave decord nothing to guess."""
    places = {stamp: place for place, stamp in enumerate(group.stamps)}
    data, num_bytes = io.BytesIO(), 0
    with av.open(data, "w", format="matroska") as output:
        track = output.add_stream_from_template(stream, opaque=True, rate=25)
        for packet in stored:
            if packet.pts not in places:
                continue
            num_bytes += packet.size
            if num_bytes > _MOST_BYTES:
                raise _UnsureError
            packet.pts, packet.dts, packet.duration = len(places) + places[packet.pts], None, 1
            packet.stream, packet.time_base = track, _TICK
            output.mux(packet)
    return data


def _frames(
    decord: ModuleType, data: io.BytesIO, group: _Group, squarer: Squarer
) -> "dict[int, NDArray[np.uint8]]":
    """The wanted frames (H, W, 3) by source index, without a seek.

    Raises:
        _UnsureError, DECORDError: there is not one frame for each packet.
    """
    width, height = squarer.stored
    data.seek(0)
    try:
        reader = decord.VideoReader(data, width=width, height=height, num_threads=1, fault_tol=_NO_COPIES)
    except (RuntimeError, AssertionError):
        raise _UnsureError from None
    last = len(group.stamps) - 1
    if len(reader) != last + 1 or reader.get_key_indices() != [0]:
        raise _UnsureError
    found: dict[int, NDArray[np.uint8]] = {}
    # for a frame that it lacks it copies the one before, and says so: if there is one, and at the end
    for place in sorted({0, last, *group.wanted}):
        rows = reader[place].asnumpy().reshape(height, -1)
        if place in group.wanted:  # where rows are padded, decord may take the padding for pixels
            pixels = rows[:, : 3 * width].reshape(height, width, 3)
            found[group.wanted[place]] = squarer.finished(pixels)
    return found
