"""Frames of decodes that ran out of time, kept for a while in case the same is asked for again."""

import os
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from hashlib import sha256
from threading import Lock

from bt_model.decoding.decoded import FrameMemories
from bt_model.decoding.queue import DecodeJob

_SECONDS = 600.0
_MOST_OF_OWNER = 4


@dataclass(frozen=True, slots=True)
class KeptFrames:
    """The frames of these source indices, in the order of the memory files."""

    indices: tuple[int, ...] = ()
    memories: FrameMemories = field(default_factory=FrameMemories)
    since: float = field(default_factory=time.monotonic)

    @property
    def num_bytes(self) -> int:
        return sum(os.fstat(memory).st_size for memory in self.memories.values())


class FrameKeeper:
    """Keeps up to `most_bytes` of frames, the newest ones, for their owner alone. Safe between threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = Lock()
        self._kept: OrderedDict[tuple[str, Hashable], KeptFrames] = OrderedDict()

    def put(self, job: DecodeJob, frames: KeptFrames) -> None:
        """Whoever keeps them closes them: from here on they are the keeper's."""
        if not frames.indices:
            return
        with self._lock:
            old = self._kept.pop(_key(job), None)
            self._kept[_key(job)] = frames
            if old is not None:
                old.memories.close()
            self._drop(job.owner)

    def take(self, job: DecodeJob) -> KeptFrames:
        """What there is for this job, which is the caller's then; perhaps nothing."""
        with self._lock:
            self._drop(job.owner)
            return self._kept.pop(_key(job), None) or KeptFrames()

    def close(self) -> None:
        with self._lock:
            for key in list(self._kept):
                self._kept.pop(key).memories.close()

    def _drop(self, owner: str) -> None:
        """What is old, and the oldest of what is too much."""
        for key, frames in list(self._kept.items()):
            of_owner = sum(name == owner for name, _ in self._kept)
            is_full = sum(each.num_bytes for each in self._kept.values()) > self._most_bytes
            is_old = time.monotonic() - frames.since > _SECONDS
            if is_old or is_full or (key[0] == owner and of_owner > _MOST_OF_OWNER):
                self._kept.pop(key).memories.close()


def _key(job: DecodeJob) -> tuple[str, Hashable]:
    """The same frames are wanted of the same file, for answers or to be shown."""
    request = job.request
    return job.owner, (
        job.path,
        request.sampling,
        request.sizes,
        request.default_frames,
        sha256(request.index or b"").digest(),  # by which frames are counted
    )
