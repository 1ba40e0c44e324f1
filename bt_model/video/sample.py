"""Which frames of a video are used: arithmetic only. Every rounding is half to even, as published.

Indices always count the frames of the whole file in display order, from 0.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from bt_model.errors import InvalidValueError, require
from bt_model.types import MAX_FRAMES, Sampling, Strategy

_EPSILON = 1e-6  # seconds; far below one tick of any container, above the rounding of float times


def frame_indices(
    total: int,
    sampling: Sampling,
    fps: float,
    default_frames: int,
    times: Sequence[float] | None = None,
    seconds: float | None = None,
) -> tuple[int, ...]:
    """The source indices of the frames that `sampling` asks for, at most MAX_FRAMES of them.

    Args:
        total: frames in the file.
        sampling: the request.
        fps: frames a second of the source, on average.
        default_frames: how many frames, where `sampling` names neither a count nor a rate.
        times: seconds at which each frame is shown, ascending; needed if the source's rate varies.
        seconds: where the last frame ends; None: it is shown as long as frames are on average.

    Raises:
        InvalidValueError: a window without frames, or a rate that gives more than MAX_FRAMES frames.
    """
    if total < 1 or not (math.isfinite(fps) and fps > 0):
        raise InvalidValueError(f"total is {total}, fps {fps}; both must be above 0", param="video")
    if sampling.fps is None and sampling.start is None and sampling.end is None:
        return tuple(_by_count(total, sampling, default_frames))
    shown = [i / fps for i in range(total)] if times is None else times
    seconds = shown[-1] + 1 / fps if seconds is None else seconds
    window = _window(shown, sampling, seconds)
    if sampling.fps is not None:
        return tuple(_by_rate(shown, window, sampling, min(seconds, sampling.end or seconds)))
    return tuple(window.start + i for i in _by_count(len(window), sampling, default_frames))


def uniform(total: int, count: int) -> list[int]:
    """The chat sampler: the middle of each of min(total, count) equal segments of 0..total-1."""
    bounds = segment_bounds(total, min(total, count))
    return [(low + high) // 2 for low, high in bounds]


def middle(total: int, count: int) -> list[int]:
    """The feature-extraction sampler: always `count` frames; short videos repeat some."""
    return [int(i * total / count + total / (2 * count)) for i in range(count)]


def retrieval_test(total: int, count: int) -> list[int]:
    """The retrieval test sampler: always `count` frames; short videos repeat some."""
    step = (total - 1) / count
    return [round(step * i) + int(step / 2) for i in range(count)]


def retrieval_training(total: int, count: int, rng: Random) -> list[int]:
    """The retrieval training sampler: always `count` frames, each drawn in its own segment."""
    return [rng.randint(low, high) for low, high in segment_bounds(total, count)]


def segment_bounds(total: int, count: int) -> list[tuple[int, int]]:
    """The first and the last frame, both included, of each of `count` equal segments of 0..total-1."""
    step = (total - 1) / count
    return list(pairwise(round(step * i) for i in range(count + 1)))


@dataclass(frozen=True, slots=True)
class Sampler:
    """A way to choose `count` of `total` frames, what short videos give it, and whether the seed matters."""

    indices: Callable[[int, int, Random], list[int]]
    gives_fewer: bool = False  # of a video with fewer frames than asked for, instead of repeating some
    uses_seed: bool = False


SAMPLERS: dict[Strategy, Sampler] = {
    "uniform": Sampler(lambda total, count, _: uniform(total, count), gives_fewer=True),
    "middle": Sampler(lambda total, count, _: middle(total, count)),
    "retrieval": Sampler(lambda total, count, _: retrieval_test(total, count)),
    "random": Sampler(retrieval_training, uses_seed=True),
}


def _by_count(total: int, sampling: Sampling, default_frames: int) -> list[int]:
    count = default_frames if sampling.num_frames is None else sampling.num_frames
    require(1 <= count <= MAX_FRAMES, "sampling.num_frames", count, f"1 to {MAX_FRAMES}")
    return SAMPLERS[sampling.strategy].indices(total, count, Random(sampling.seed))


def _window(shown: Sequence[float], sampling: Sampling, seconds: float) -> range:
    """The frames shown from `start` on and before `end`."""
    start = sampling.start or 0.0
    if start >= seconds - _EPSILON:
        raise InvalidValueError(
            f"sampling.start is {start:g} s; the video lasts {seconds:g} s", param="sampling.start"
        )
    first = bisect_left(shown, start - _EPSILON)
    stop = len(shown) if sampling.end is None else bisect_left(shown, sampling.end - _EPSILON)
    if first >= stop:
        end = seconds if sampling.end is None else sampling.end
        raise InvalidValueError(
            f"no frame begins between sampling.start {start:g} s and sampling.end {end:g} s; "
            f"the video has {len(shown)} frames in {seconds:g} s",
            param="sampling.start" if sampling.end is None else "sampling.end",
        )
    return range(first, stop)


def _by_rate(shown: Sequence[float], window: range, sampling: Sampling, end: float) -> list[int]:
    """The frame on screen at start, start + 1/rate, ...; a rate above the source's gives each frame once."""
    if sampling.strategy != "uniform":
        raise InvalidValueError(
            f"sampling.strategy is {sampling.strategy!r}; with fps only 'uniform' is allowed",
            param="sampling.strategy",
        )
    rate, start = sampling.fps or 1.0, sampling.start or 0.0
    count = max(1, math.ceil((end - start) * rate - _EPSILON))
    if count <= MAX_FRAMES:
        ticks = (start + tick / rate + _EPSILON for tick in range(count))
        return sorted({max(window.start, bisect_right(shown, t, hi=window.stop) - 1) for t in ticks})
    if len(window) <= MAX_FRAMES:
        return list(window)
    largest = math.floor(1000 * MAX_FRAMES / (end - start)) / 1000
    raise InvalidValueError(
        f"sampling.fps is {rate:g}, which gives {min(count, len(window))} frames of {end - start:g} s; "
        f"allowed: {MAX_FRAMES} frames, so fps up to {largest:g} or a window up to {MAX_FRAMES / rate:g} s",
        param="sampling.fps",
    )
