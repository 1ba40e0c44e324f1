"""What a decode pool hands back; frames lie in memory files that a child filled and sealed."""

import fcntl
import os
from dataclasses import dataclass
from math import isqrt
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bt_model.decoding.wire import Request
from bt_model.types import FrameSize, VideoFacts
from bt_model.video import refusals

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(slots=True)
class Decoded:
    """What became of one file. The owner closes it, which gives the frames' memory back.

    `memories` holds the same frames in one or more sizes, each a sealed memory file of uint8
    (num_frames, side, side, 3), `jpegs` the thumbnails, each only where it was asked for. `seconds` counts
    from the request on.
    """

    facts: VideoFacts
    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    jpegs: tuple[bytes, ...]
    memories: dict[FrameSize, int]
    seconds: float

    @property
    def num_frames(self) -> int:
        return len(self.indices)

    def take_pixels(self) -> NDArray[np.uint8]:
        """Close it; the frames of its only size are in memory of this process. -> (T, side, side, 3)."""
        with self:
            (memory,) = self.memories.values()
            num_bytes = os.fstat(memory).st_size
            side = isqrt(num_bytes // (3 * self.num_frames))
            data = os.pread(memory, num_bytes, 0)
        return np.frombuffer(data, np.uint8).reshape(self.num_frames, side, side, 3)

    def close(self) -> None:
        """Free the memory. Idempotent."""
        _close_all(self.memories)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FrameMemories:
    """Memory files for a request's frames, by size; closed on exit unless they were handed over."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.by_size: dict[FrameSize, int] = {}
        try:
            for size in request.sizes if request.job == "frames" else ():
                self.by_size[size] = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                os.ftruncate(self.by_size[size], request.max_bytes(size))  # no memory until it is written
        except OSError:
            _close_all(self.by_size)
            raise

    def handed_over(self, num_frames: int) -> dict[FrameSize, int]:
        """The files, now the caller's.

        Raises:
            VideoError: the child did not cut each to the frames that it names, or left one open to change.
        """
        for size, memory in self.by_size.items():
            num_bytes = num_frames * 3 * self._request.side(size) ** 2
            is_sealed = fcntl.fcntl(memory, fcntl.F_GET_SEALS) & _SEALS == _SEALS
            if num_frames == 0 or not is_sealed or os.fstat(memory).st_size != num_bytes:
                raise refusals.undecodable()
        by_size, self.by_size = self.by_size, {}
        return by_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close_all(self.by_size)


def _close_all(memories: dict[FrameSize, int]) -> None:
    while memories:
        os.close(memories.popitem()[1])
