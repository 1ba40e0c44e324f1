"""What a scan has found, as bytes that are kept with a video: who reads it later need not scan it again.

Who wrote them read a hostile file: they are checked like one, and what is wrong with them is no error of the
video, which is scanned then. N frames, M packets.
"""

import hashlib
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import astuple
from fractions import Fraction
from importlib.metadata import version
from typing import Any, BinaryIO, cast

import av
import msgpack
import numpy as np
from numpy.typing import NDArray

from bt_model.errors import VideoError
from bt_model.video.facts import Picture
from bt_model.video.formats import HEAD_BYTES, container_of
from bt_model.video.opening import check_size
from bt_model.video.orientation import Orientation
from bt_model.video.packets import Clip
from bt_model.video.refusals import DecodeLimits

# other versions may find something else in the same file
_MADE_BY = (1, version("btchat"), av.__version__, str(av.ffmpeg_version_info))
_COMPARED_BYTES = 64 * 1024  # at a file's start
_MOST_IN_RATE = 100_000  # denominator of a clock's ticks a second
_STEPS = ("<i1", "<i2", "<i4", "<i8")
_RATIO = re.compile("[1-9][0-9]*:[1-9][0-9]*")
_MAX_TEXT, _MAX_WARNINGS = 500, 8
_WRONG = (ValueError, TypeError, ArithmeticError, IndexError, zlib.error, msgpack.UnpackException, VideoError)

_Integers = NDArray[np.int64]


def pack(clip: Clip, file: BinaryIO) -> bytes:
    """The index of this file."""
    about = [clip.container, clip.codec, clip.width, clip.height, clip.has_audio, clip.header_fps]
    about += [clip.seconds, clip.warnings, astuple(clip.orientation), astuple(clip.picture), clip.is_counted]
    nowhere = [number for number, stamp in enumerate(clip.pts) if stamp is None]
    pts = np.array([stamp or 0 for stamp in clip.pts] if nowhere else clip.pts, np.int64)
    labels = None if clip.labels is None else np.array(clip.labels, np.int64)
    columns = [
        _column(pts),
        _column(nowhere),
        _column(clip.keys),
        _labels(labels, pts),
        *_times(clip, labels),
        _column(clip.places),
    ]
    return cast(bytes, msgpack.packb([_origin(file), about, columns]))


def unpack(data: bytes, file: BinaryIO, limits: DecodeLimits) -> Clip | None:
    """The clip that was packed; None where that was of another file, or is nothing that a scan finds."""
    try:
        origin, about, columns = msgpack.unpackb(data, use_list=False)
        if origin != _origin(file):
            return None
        with np.errstate(all="ignore"):  # what comes of rubbish is refused
            clip = _clip(about, columns, limits)
            _check(clip, limits)
        file.seek(0)
        return clip if container_of(file.read(HEAD_BYTES)) == clip.container else None
    except _WRONG:
        return None


def _origin(file: BinaryIO) -> tuple[object, ...]:
    num_bytes = file.seek(0, 2)
    file.seek(0)
    return (*_MADE_BY, num_bytes, hashlib.sha256(file.read(_COMPARED_BYTES)).digest())


def _clip(about: Sequence[Any], columns: Sequence[Any], limits: DecodeLimits) -> Clip:
    container, codec, width, height, has_audio, header_fps, *others = about
    seconds, warnings, orientation, picture, is_counted = others
    packed_pts, packed_nowhere, packed_keys, packed_labels, clock, packed_times, packed_places = columns
    most = limits.max_packets
    pts = _values(packed_pts, most)
    nowhere = _values(packed_nowhere, most).tolist()
    labels = _unpacked_labels(packed_labels, pts, most)
    stamps: list[int | None] = pts.tolist()
    for number in nowhere:
        stamps[number] = None
    return Clip(
        container=container,
        codec=codec,
        width=width,
        height=height,
        orientation=Orientation(*orientation),
        picture=Picture(*picture),
        has_audio=has_audio,
        header_fps=header_fps,
        times=_unpacked_times(clock, packed_times, labels, most).tolist(),
        seconds=seconds,
        labels=None if labels is None else labels.tolist(),
        pts=stamps,
        keys=_values(packed_keys, most).tolist(),
        warnings=warnings,
        places=_values(packed_places, most).tolist() or (),
        is_counted=is_counted,
    )


def _labels(labels: _Integers | None, pts: _Integers) -> object:
    """Mostly those of the packets in order, but for a few that are not shown: then these packets' numbers."""
    if labels is None:
        return None
    nearest = labels[np.minimum(np.searchsorted(labels, pts), len(labels) - 1)]
    hidden = np.flatnonzero(nearest != pts)  # not np.isin, which imports what the sandbox denies
    is_sorted = np.array_equal(np.sort(np.delete(pts, hidden)), labels)
    return is_sorted, _column(hidden if is_sorted else labels)


def _unpacked_labels(packed: Any, pts: _Integers, most: int) -> _Integers | None:
    if packed is None:
        return None
    is_sorted, column = packed
    values = _values(column, most)
    return np.sort(np.delete(pts, values)) if is_sorted else values


def _times(clip: Clip, labels: _Integers | None) -> tuple[object, object]:
    """A clock, and the ticks of it if they are not those of the labels; or without a clock the bits."""
    times = np.array(clip.times)
    clock = _clock(times, labels)
    if clock is not None:
        ticks = _ticks(times, labels, clock)
        if _is_same(_at(ticks, clock), times):
            return clock, None if labels is not None else _column(ticks)
    return None, _column(times.view(np.int64))


def _unpacked_times(clock: Any, packed: Any, labels: _Integers | None, most: int) -> NDArray[np.float64]:
    if clock is None:
        return _values(packed, most).view(np.float64)
    ticks = _values(packed, most) if labels is None else labels - labels[0]
    return _at(ticks, clock)


_Clock = tuple[float, int, int]
"""Seconds at tick 0, and a tick's length as a fraction of a second."""


def _clock(times: NDArray[np.float64], labels: _Integers | None) -> _Clock | None:
    """A guess, as a clip does not say what clock its times were counted by."""
    steps = np.diff(times)
    span = times[-1] - times[0] if labels is not None else steps[steps > 0].min(initial=times[-1])
    num_ticks = 1 if labels is None else int(labels[-1] - labels[0])
    if not span > 0 or num_ticks <= 0:
        return None
    rate = Fraction(num_ticks / float(span)).limit_denominator(_MOST_IN_RATE)
    return 0.0 if labels is None else float(times[0]), rate.denominator, rate.numerator


def _ticks(times: NDArray[np.float64], labels: _Integers | None, clock: _Clock) -> _Integers:
    _, up, down = clock
    return labels - labels[0] if labels is not None else np.rint(times * down / up).astype(np.int64)


def _at(ticks: _Integers, clock: _Clock) -> NDArray[np.float64]:
    start, up, down = clock
    return start + ticks * up / down


def _is_same(values: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    return np.array_equal(values.view(np.int64), others.view(np.int64))


def _column(values: Sequence[int] | NDArray[np.signedinteger[Any]]) -> tuple[int, str, bytes]:
    """Integers as their differences, in as few bytes as they all take: first all lowest bytes."""
    steps = np.diff(np.asarray(values, np.int64), prepend=np.int64(0))
    low, high = steps.min(initial=0), steps.max(initial=0)
    step = next(each for each in _STEPS if np.iinfo(each).min <= low and high <= np.iinfo(each).max)
    planes = steps.astype(step).view(np.uint8).reshape(len(steps), np.dtype(step).itemsize).T
    return len(steps), step, zlib.compress(planes.tobytes(), 1)


def _values(column: Any, most: int) -> _Integers:
    length, step, data = column
    if step not in _STEPS or not 0 <= length <= most:
        raise ValueError
    size = np.dtype(step).itemsize
    planes = zlib.decompressobj().decompress(data, length * size + 1)
    if len(planes) != length * size:
        raise ValueError
    steps = np.frombuffer(planes, np.uint8).reshape(size, length).T.tobytes()
    return np.frombuffer(steps, step).cumsum(dtype=np.int64)


def _check(clip: Clip, limits: DecodeLimits) -> None:
    """Raises one of `_WRONG` for what no scan finds."""
    texts = (clip.codec, *astuple(clip.picture)[:-2], *clip.warnings)
    numbers = (clip.header_fps, clip.seconds, *clip.times[-1:])
    kinds = (
        (texts, str),
        (numbers, float),
        ((clip.width, clip.height), int),
        ((clip.has_audio, clip.is_counted), bool),
    )
    is_typed = all(type(value) is kind for values, kind in kinds for value in values)
    is_typed = is_typed and type(clip.warnings) is tuple
    flags = (*astuple(clip.orientation), clip.picture.tone_mapped, clip.picture.deinterlaced)
    is_short = len(clip.warnings) <= _MAX_WARNINGS and all(len(text) <= _MAX_TEXT for text in texts)
    if not (is_typed and is_short and all(type(flag) is bool for flag in flags)):
        raise TypeError
    times, keys = np.array(clip.times), np.array(clip.keys, np.int64)
    are_finite = math.isfinite(clip.seconds + clip.header_fps) and np.isfinite(times).all()
    are_ordered = (np.diff(times) >= 0).all() and (np.diff(keys) > 0).all()
    is_within = times[-1] <= min(clip.seconds, limits.max_seconds) and clip.header_fps > 0
    are_keys = not len(keys) or 0 <= keys[0] <= keys[-1] < len(clip.pts)
    are_places = len(clip.places) in (0, len(keys)) and min(clip.places, default=0) >= 0
    if not (are_finite and are_ordered and is_within and are_keys and are_places):
        raise ValueError
    labels = clip.labels
    if labels is not None and (len(labels) != len(times) or not (np.diff(np.array(labels)) > 0).all()):
        raise ValueError
    if not _RATIO.fullmatch(clip.picture.sample_aspect_ratio):
        raise ValueError
    check_size(clip.width, clip.height, limits)
    check_size(*clip.displayed, limits)
