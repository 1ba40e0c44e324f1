"""Frames of decodes that ran out of time, kept for a while in case the same is asked for again."""

import time
from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Lock

from bt_model.decoding.decoded import FrameMemories
from bt_model.decoding.queue import DecodeJob

_SECONDS = 600.0
_MOST_OF_OWNER = 4

_Key = tuple[str, Path, Hashable]


@dataclass(frozen=True, slots=True)
class KeptFrames:
    """The frames of these source indices, in the order of the memory files, which have so many bytes."""

    indices: tuple[int, ...] = ()
    memories: FrameMemories = field(default_factory=FrameMemories)
    num_bytes: int = 0
    since: float = field(default_factory=time.monotonic)


class FrameKeeper:
    """Keeps up to `most_bytes` of frames for their owner alone, for ten minutes. Safe between threads.

    Of what is too much, the oldest goes of the owner who has most: nobody displaces who has less.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = Lock()
        self._kept: OrderedDict[_Key, KeptFrames] = OrderedDict()
        self._num_bytes = 0
        self._bytes_of = Counter[str]()

    def put(self, job: DecodeJob, frames: KeptFrames) -> None:
        """Whoever keeps them closes them: from here on they are the keeper's."""
        if not frames.indices:
            return
        with self._lock:
            self._drop(_key(job))
            self._kept[_key(job)] = frames
            self._count(job.owner, frames.num_bytes)
            if sum(owner == job.owner for owner, *_ in self._kept) > _MOST_OF_OWNER:
                self._drop_oldest(job.owner)
            while self._num_bytes > self._most_bytes:
                self._drop_oldest(max(self._bytes_of, key=self._bytes_of.__getitem__))
            self._drop_old()

    def take(self, job: DecodeJob) -> KeptFrames:
        """What there is for this job, which is the caller's then; perhaps nothing."""
        with self._lock:
            self._drop_old()
            return self._taken(_key(job)) or KeptFrames()

    def drop_old(self) -> float | None:
        """Free what is old; seconds until there is more of it, None if nothing is kept."""
        with self._lock:
            return self._drop_old()

    def forget(self, owner: str, name: str) -> None:
        """Free what an owner has of the file of this name."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == owner and key[1].name == name]:
                self._drop(key)

    def close(self) -> None:
        with self._lock:
            for key in list(self._kept):
                self._drop(key)

    def _drop_old(self) -> float | None:
        now = time.monotonic()
        for key in [key for key, frames in self._kept.items() if now - frames.since > _SECONDS]:
            self._drop(key)
        ends = [frames.since + _SECONDS - now for frames in self._kept.values()]
        return min(ends, default=None)

    def _drop_oldest(self, owner: str) -> None:
        self._drop(next(key for key in self._kept if key[0] == owner))

    def _drop(self, key: _Key) -> None:
        if (frames := self._taken(key)) is not None:
            frames.memories.close()

    def _taken(self, key: _Key) -> KeptFrames | None:
        if (frames := self._kept.pop(key, None)) is not None:
            self._count(key[0], -frames.num_bytes)
        return frames

    def _count(self, owner: str, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        self._bytes_of[owner] += num_bytes
        if not self._bytes_of[owner]:
            del self._bytes_of[owner]


def _key(job: DecodeJob) -> _Key:
    """The same frames are wanted of the same file, for answers or to be shown."""
    request = job.request
    counted_by = sha256(request.index or b"").digest()
    return (
        job.owner,
        job.path,
        (request.sampling, request.single, request.sizes, request.default_frames, counted_by),
    )
