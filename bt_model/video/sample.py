"""Which frames of a video are used: arithmetic only. Every rounding is half to even, as published.

Indices always count the frames of the whole file in display order, from 0.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from bt_model.errors import InvalidValueError, require
from bt_model.types import MAX_FRAMES, RATE_STRATEGIES, Sampling, Strategy

_EPSILON = 1e-6  # seconds; far below one tick of any container, above the rounding of float times


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Source indices, and how many there would be if the model took any number of them."""

    indices: tuple[int, ...]
    num_wanted: int


@dataclass(frozen=True, slots=True)
class SingleFrame:
    """One frame, by its index in the whole file or, where that is None, the one on screen at `seconds`."""

    index: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """The `frames` that a sampling may take, and the seconds from `start` to `end` that it is about.

    `shown` has the seconds at which each frame of the whole file is shown.
    """

    shown: Sequence[float]
    frames: range
    start: float
    end: float

    def on_screen(self, seconds: float) -> int:
        """The frame that is shown at `seconds`; the first of these frames before it is shown."""
        return max(self.frames.start, bisect_right(self.shown, seconds + _EPSILON, hi=self.frames.stop) - 1)

    def between(self, low: int, high: int) -> tuple[float, int]:
        """The frame between two that is farthest in time from both, after its seconds to the nearer one.

        `low` and `high` may be just outside of `frames`, where nothing is taken.
        """
        before = self.shown[low] if low in self.frames else -math.inf
        after = self.shown[high] if high in self.frames else math.inf
        near = bisect_left(self.shown, (before + after) / 2, low + 1, high - 1)
        both = (max(low + 1, near - 1), near)
        return max((min(self.shown[i] - before, after - self.shown[i]), i) for i in both)


def choose_frames(
    total: int,
    sampling: Sampling,
    fps: float,
    default_frames: int,
    times: Sequence[float] | None = None,
    seconds: float | None = None,
) -> FrameChoice:
    """The frames that `sampling` asks for, one fewer where the model does not take so many.

    Args:
        total: frames in the file.
        sampling: the request.
        fps: frames a second of the source, on average.
        default_frames: how many frames, where `sampling` names neither a count nor a rate.
        times: seconds at which each frame is shown, ascending; needed if the source's rate varies.
        seconds: where the last frame ends; None: it is shown as long as frames are on average.

    Raises:
        InvalidValueError: a window without frames, a rate that gives more than MAX_FRAMES frames, or one
            frame where the model takes none but even numbers.
    """
    if total < 1 or not (math.isfinite(fps) and fps > 0):
        raise InvalidValueError(f"total is {total}, fps {fps}; both must be above 0", param="video")
    shown = [i / fps for i in range(total)] if times is None else times
    stretch = _stretch(shown, sampling, shown[-1] + 1 / fps if seconds is None else seconds)
    wanted = _indices(stretch, sampling, default_frames)
    count = rounded_down(len(wanted), sampling.even_above)
    if count == len(wanted):
        return FrameChoice(tuple(wanted), count)
    allowed = "2 or more for this model; strategy 'middle' takes the frame of a video that has one twice"
    require(count > 0, "sampling.num_frames" if sampling.fps is None else "sampling.fps", 1, allowed)
    # chosen anew, so that they are still spread over all of the stretch
    fewer = replace(sampling, **{"num_frames" if sampling.fps is None else "max_frames": count})
    return FrameChoice(tuple(_indices(stretch, fewer, default_frames)), len(wanted))


def chosen_frame(single: SingleFrame, times: Sequence[float], seconds: float) -> FrameChoice:
    """The frame of a video whose last one ends at `seconds`. Raises InvalidValueError: it ends before."""
    index = single.index
    if index is None:
        lasts = f"0 to {seconds:g}, the seconds of the video"
        require(0 <= single.seconds <= seconds + _EPSILON, "t", single.seconds, lasts)
        index = max(bisect_right(times, single.seconds + _EPSILON) - 1, 0)
    last = len(times) - 1
    require(0 <= index <= last, "index", index, f"0 to {last}, the frames of the video")
    return FrameChoice((index,), 1)


def rounded_down(count: int, even_above: int) -> int:
    """The largest number up to `count` that a model takes; above `even_above` that is an even one."""
    return count - count % 2 if count > even_above else count


def rounding_warnings(num_frames: int, num_wanted: int) -> list[str]:
    """What to tell one who gets fewer frames than his sampling gives."""
    if num_frames == num_wanted:
        return []
    return [f"{num_frames} frames are used, not {num_wanted}: of so many the model takes an even number only"]


def uniform(total: int, count: int) -> list[int]:
    """The published chat sampler where there are more than `count` frames, else each of them once."""
    return list(range(total)) if total <= count else published(total, count)


def published(total: int, count: int) -> list[int]:
    """The chat sampler: the middle of each of min(total, count) equal segments of 0..total-1.

    Up to `count` frames are not all taken: of two, the first is, twice.
    """
    bounds = segment_bounds(total, min(total, count))
    return [(low + high) // 2 for low, high in bounds]


def uniform_time(stretch: Stretch, count: int) -> list[int]:
    """The frame on screen in the middle of each of `count` equal spans of time, each frame once.

    Where one is on screen in several of these middles, others fill the longest gaps in time.
    """
    frames = stretch.frames
    if len(frames) <= count:
        return list(frames)
    span = (stretch.end - stretch.start) / count
    taken = sorted({stretch.on_screen(stretch.start + (i + 0.5) * span) for i in range(count)})
    while len(taken) < count:
        gaps = pairwise([frames.start - 1, *taken, frames.stop])
        _, frame = max(stretch.between(low, high) for low, high in gaps if high - low > 1)
        insort(taken, frame)
    return taken


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
    """A way to choose `count` frames of a stretch, what short ones give it, and whether the seed matters."""

    indices: Callable[[Stretch, int, Random], list[int]]
    gives_fewer: bool = False  # of a video with fewer frames than asked for, instead of repeating some
    uses_seed: bool = False


def _numbered(rule: Callable[[int, int, Random], list[int]]) -> Callable[[Stretch, int, Random], list[int]]:
    """A rule that counts frames and asks for no times."""
    return lambda stretch, count, rng: [stretch.frames[i] for i in rule(len(stretch.frames), count, rng)]


SAMPLERS: dict[Strategy, Sampler] = {
    "uniform": Sampler(_numbered(lambda total, count, _: uniform(total, count)), gives_fewer=True),
    "uniform_time": Sampler(lambda stretch, count, _: uniform_time(stretch, count), gives_fewer=True),
    "published": Sampler(_numbered(lambda total, count, _: published(total, count)), gives_fewer=True),
    "middle": Sampler(_numbered(lambda total, count, _: middle(total, count))),
    "retrieval": Sampler(_numbered(lambda total, count, _: retrieval_test(total, count))),
    "random": Sampler(_numbered(retrieval_training), uses_seed=True),
}


def _indices(stretch: Stretch, sampling: Sampling, default_frames: int) -> list[int]:
    if sampling.fps is not None:
        return _by_rate(stretch, sampling, sampling.fps)
    count = default_frames if sampling.num_frames is None else sampling.num_frames
    require(1 <= count <= MAX_FRAMES, "sampling.num_frames", count, f"1 to {MAX_FRAMES}")
    return SAMPLERS[sampling.strategy].indices(stretch, count, Random(sampling.seed))


def _stretch(shown: Sequence[float], sampling: Sampling, seconds: float) -> Stretch:
    """What a sampling takes frames of: those that begin from its `start` on and before its `end`.

    Where none does, one that goes by time takes the one that is on screen all the while.
    """
    frames = range(len(shown))
    if sampling.start is not None or sampling.end is not None:
        frames = _window(shown, sampling, seconds)
    start = max(sampling.start or 0.0, shown[0])
    return Stretch(shown, frames, start, min(seconds, sampling.end or seconds))


def _window(shown: Sequence[float], sampling: Sampling, seconds: float) -> range:
    start, by_time = sampling.start or 0.0, sampling.fps is not None or sampling.strategy == "uniform_time"
    if start >= seconds - _EPSILON:
        raise InvalidValueError(
            f"sampling.start is {start:g} s; the video lasts {seconds:g} s", param="sampling.start"
        )
    first = bisect_left(shown, start - _EPSILON)
    stop = len(shown) if sampling.end is None else bisect_left(shown, sampling.end - _EPSILON)
    if first >= stop and by_time and first > 0:
        return range(first - 1, first)
    if first >= stop:
        end = seconds if sampling.end is None else sampling.end
        raise InvalidValueError(
            f"no frame begins between sampling.start {start:g} s and sampling.end {end:g} s; "
            f"the video has {len(shown)} frames in {seconds:g} s",
            param="sampling.start" if sampling.end is None else "sampling.end",
        )
    return range(first, stop)


def _by_rate(stretch: Stretch, sampling: Sampling, rate: float) -> list[int]:
    """The frame on screen at start, start + 1/rate, ..., each once; or `max_frames` spread in time."""
    if sampling.strategy not in RATE_STRATEGIES:
        raise InvalidValueError(
            f"sampling.strategy is {sampling.strategy!r}; allowed with fps: {', '.join(RATE_STRATEGIES)}",
            param="sampling.strategy",
        )
    most = sampling.max_frames or MAX_FRAMES
    taken = _on_ticks(stretch, rate, most)
    if len(taken) <= most:
        return taken
    if sampling.max_frames is not None:
        return uniform_time(stretch, most)
    seconds = stretch.end - stretch.start
    count = min(math.ceil(seconds * rate - _EPSILON), len(stretch.frames))
    largest = math.floor(1000 * MAX_FRAMES / seconds) / 1000
    raise InvalidValueError(
        f"sampling.fps is {rate:g}, which gives {count} frames of {seconds:g} s; allowed: {MAX_FRAMES} "
        f"frames, so fps up to {largest:g} or a window up to {MAX_FRAMES / rate:g} s, or any rate with "
        "sampling.max_frames",
        param="sampling.fps",
    )


def _on_ticks(stretch: Stretch, rate: float, most: int) -> list[int]:
    """The frames on screen at start, start + 1/rate, ... before the end; the first `most` + 1 of them."""
    taken: list[int] = []
    tick = 0
    while len(taken) <= most and (tick == 0 or tick < (stretch.end - stretch.start) * rate - _EPSILON):
        frame = stretch.on_screen(stretch.start + tick / rate)
        if frame not in taken[-1:]:
            taken.append(frame)
        if frame + 1 == stretch.frames.stop:
            break
        # ticks at which this frame is still on screen are passed over: an hour may have a million
        following = stretch.shown[frame + 1] - stretch.start - _EPSILON
        tick = max(tick + 1, math.ceil(following * rate))
    return taken
