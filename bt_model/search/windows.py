"""Which windows a film has and which pieces of it are decoded for them: arithmetic only, without torch.

A frame is what is on screen at a tick, every 1/fps seconds from 0 on. A window is `length` frames in a row.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bt_model.errors import require
from bt_model.types import MAX_FPS, MAX_FRAMES, Sampling

_EPSILON = 1e-6  # of a frame, and seconds: above the rounding of float times


@dataclass(frozen=True, slots=True)
class FilmChunk:
    """A piece of a film that is decoded and encoded by itself: its frames and windows, counted in the film.

    The windows of all chunks together are those of the film, each once.
    """

    fps: float
    first_frame: int
    num_frames: int
    first_window: int
    num_windows: int

    @property
    def start(self) -> float:
        """Seconds of the first frame."""
        return self.first_frame / self.fps

    @property
    def end(self) -> float:
        """Seconds until which the last frame stands for the film."""
        return (self.first_frame + self.num_frames) / self.fps

    @property
    def sampling(self) -> Sampling:
        """What to ask a decoder for."""
        return Sampling(fps=self.fps, max_frames=self.num_frames, start=self.start, end=self.end)

    def on_screen(self, timestamps: Sequence[float]) -> list[int]:
        """Which of the decoded frames is on screen at each tick; some twice where the film has few frames."""
        ticks = (self.start + number / self.fps for number in range(self.num_frames))
        return [max(bisect_right(timestamps, tick + _EPSILON) - 1, 0) for tick in ticks]


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Windows of `length` frames at `fps` frames a second, one every `stride` frames.

    Chunks overlap by `length - stride` frames, so that none needs what another one computed.

    Raises:
        InvalidValueError: a value out of range.
    """

    fps: float = 2.0
    length: int = 8
    stride: int = 1

    def __post_init__(self) -> None:
        require(0 < self.fps <= MAX_FPS, "fps", self.fps, f"above 0, up to {MAX_FPS}")
        require(1 <= self.length <= MAX_FRAMES, "length", self.length, f"1 to {MAX_FRAMES}")
        require(1 <= self.stride <= self.length, "stride", self.stride, f"1 to {self.length}, the length")

    @property
    def overhead(self) -> float:
        """How many frames of a long film are encoded for each that it has."""
        return (self.length + self.stride * (self._windows_per_chunk - 1)) / (
            self.stride * self._windows_per_chunk
        )

    @property
    def _windows_per_chunk(self) -> int:
        return (MAX_FRAMES - self.length) // self.stride + 1

    def num_frames(self, seconds: float) -> int:
        """How many frames a film of so many seconds has, at least one.

        Raises:
            InvalidValueError: no length of a film.
        """
        require(0 <= seconds < math.inf, "seconds", seconds, "0 or more")
        return max(math.ceil(seconds * self.fps - _EPSILON), 1)

    def num_windows(self, seconds: float) -> int:
        """How many windows; a film that is shorter than one has one, of all its frames."""
        return max(self.num_frames(seconds) - self.length, 0) // self.stride + 1

    def chunks(self, seconds: float) -> Iterator[FilmChunk]:
        """The pieces of a film, in order; each has MAX_FRAMES frames at most."""
        total, most = self.num_windows(seconds), self._windows_per_chunk
        frames = self.num_frames(seconds)
        for first in range(0, total, most):
            count = min(most, total - first)
            begin = first * self.stride
            end = min(begin + (count - 1) * self.stride + self.length, frames)
            yield FilmChunk(self.fps, begin, end - begin, first, count)

    def span(self, window: int, seconds: float) -> tuple[float, float]:
        """Seconds at which a window begins, and at which its last frame gives way to the next one."""
        begin = window * self.stride
        return begin / self.fps, min((begin + self.length) / self.fps, seconds)
