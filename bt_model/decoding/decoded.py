"""What a decode pool hands back; frames lie in memory files that a child filled and sealed."""

import fcntl
import os
from dataclasses import dataclass, field
from math import isqrt
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bt_model.decoding.wire import Demuxed, Request
from bt_model.types import FrameSize, VideoFacts
from bt_model.video import refusals

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class FrameMemories(dict[FrameSize, int]):
    """Descriptors of the memory files that hold a request's frames, by size; whoever has them closes them."""

    def make(self, request: Request) -> None:
        """An empty file for each size that is asked for, with room for all the frames there can be."""
        for size in request.sizes:
            self[size] = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self[size], request.max_bytes(size))  # takes no memory until it is written

    def check(self, request: Request, num_frames: int) -> None:
        """Raises VideoError: a child did not cut each to its frames, or left one open to change."""
        for size, memory in self.items():
            num_bytes = num_frames * 3 * request.side(size) ** 2
            is_sealed = fcntl.fcntl(memory, fcntl.F_GET_SEALS) & _SEALS == _SEALS
            if num_frames == 0 or not is_sealed or os.fstat(memory).st_size != num_bytes:
                raise refusals.undecodable()

    @property
    def num_bytes(self) -> int:
        return sum(os.fstat(memory).st_size for memory in self.values())

    def close(self) -> None:
        """Free the memory. Idempotent."""
        while self:
            os.close(self.popitem()[1])


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of one file; the owner closes it.

    `memories` holds the same frames in one or more sizes, each a sealed memory file of uint8
    (num_frames, side, side, 3), `jpegs` the thumbnails, each only where it was asked for. `num_wanted` and
    `reader` are those of `Frames`. `seconds` counts from the request on. `index` is to be kept for the file's
    next decode, where it is not empty: then more was found out than was known. `is_recounted`: decoding gave
    other frames than `facts` had before. `num_pixels` and `allowed_seconds` are a plan's: see `wire.Reply`.
    """

    facts: VideoFacts
    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    num_wanted: int
    reader: str
    jpegs: tuple[bytes, ...]
    memories: FrameMemories
    seconds: float
    index: bytes = b""
    demuxed: Demuxed = field(default_factory=Demuxed)
    is_recounted: bool = False
    num_pixels: int = 0
    allowed_seconds: float = 0.0

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
        self.memories.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
