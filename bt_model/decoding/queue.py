"""Who waits for a decode child: a bounded queue; owners take turns, and each one's jobs keep their order."""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bt_model.decoding import wire
from bt_model.decoding.decoded import Decoded
from bt_model.errors import DecodeQueueFullError

_SMOOTHING = 0.2


FrameCount = Callable[[int, int], object]
"""Told how many frames there are, and how many are wanted; called from a thread of the pool."""


def ignored(_num_frames: int, _num_wanted: int) -> None:
    """Nobody watches."""


def _as_it_is(decoded: Decoded) -> Decoded:
    return decoded


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """One file to decode, and the future that gets what `finish` makes of it."""

    path: Path
    request: wire.Request
    owner: str
    finish: Callable[[Decoded], Any] = _as_it_is
    count: FrameCount = ignored
    begin: float = field(default_factory=time.monotonic)
    future: Future[Any] = field(default_factory=Future[Any])

    def fail(self, error: BaseException) -> bool:
        """Tell who waits; False where nobody does any more."""
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            return False
        return True


class JobQueue:
    """Jobs that wait, at most `most`, of one owner at most `most_per_owner`. Whoever has it locks it."""

    def __init__(self, most: float, most_per_owner: float, num_children: int) -> None:
        self._most, self._most_per_owner = most, most_per_owner
        self._num_children = num_children
        self._seconds = 1.0  # that a job takes of a child, as a moving average
        self._waiting: OrderedDict[str, deque[DecodeJob]] = (
            OrderedDict()
        )  # the next owner first; none is empty

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, job: DecodeJob) -> None:
        """Raises DecodeQueueFullError."""
        if len(self) >= self._most:
            raise self._full(f"{self._most:g} videos wait for a decoder, no more fit", len(self))
        of_owner = self._waiting.setdefault(job.owner, deque())
        if len(of_owner) >= self._most_per_owner:
            text = f"{self._most_per_owner:g} videos of this key wait for a decoder, no more fit"
            raise self._full(text, len(of_owner) * len(self._waiting))
        of_owner.append(job)

    def put_back(self, job: DecodeJob) -> None:
        """Give a job that was taken the next turn; however many wait, it was let in before."""
        self._waiting.setdefault(job.owner, deque()).appendleft(job)
        self._waiting.move_to_end(job.owner, last=False)

    def take(self) -> DecodeJob:
        """The next job; there must be one. Its owner's next one has its turn after all other owners."""
        owner, jobs = next(iter(self._waiting.items()))
        job = jobs.popleft()
        self._waiting.move_to_end(owner)
        self._drop_if_empty(owner)
        return job

    def leave(self, owner: str, future: Future[Any]) -> None:
        """Take out a job that nobody waits for any more, if it is still here."""
        jobs = self._waiting.get(owner, deque())
        for job in [job for job in jobs if job.future is future]:
            jobs.remove(job)
            self._drop_if_empty(owner)

    def clear(self) -> list[DecodeJob]:
        """Take out all."""
        jobs = [job for of_owner in self._waiting.values() for job in of_owner]
        self._waiting.clear()
        return jobs

    def learn(self, seconds: float) -> None:
        """How long a job had a child: what the time to wait for room is told from."""
        self._seconds += _SMOOTHING * (seconds - self._seconds)

    def _drop_if_empty(self, owner: str) -> None:
        if not self._waiting[owner]:
            del self._waiting[owner]

    def _full(self, message: str, num_before: int) -> DecodeQueueFullError:
        return DecodeQueueFullError(message, math.ceil(num_before * self._seconds / self._num_children))
