"""A pool of disposable decode children, started before they are needed and replaced after a few files.

Each child has a thread that starts it, hands it one file after the other, and starts the next one. Whoever
asks gets a future; cancelling that kills the child at work on it. Nobody here looks into a video or maps
decoded frames: descriptors are passed on.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from bt_model.decoding import wire
from bt_model.decoding.decoded import Decoded, FrameMemories
from bt_model.decoding.process import ChildProcess
from bt_model.decoding.sandbox import ChildLimits
from bt_model.errors import DecodeTimeoutError, EngineError
from bt_model.types import FrameSize, ReaderName, Sampling
from bt_model.video import refusals
from bt_model.video.refusals import DecodeLimits

_START_SECONDS = 60.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_PATIENCE = 60.0  # seconds without any child until those who wait are told

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    path: Path
    request: wire.Request
    finish: Callable[[Decoded], Any]
    begin: float = field(default_factory=time.monotonic)
    future: Future[Any] = field(default_factory=Future[Any])


class DecodePool:
    """`size` children at a time. One that fails, dies, hangs or whose caller has left is killed and replaced.

    Every future ends in a `Decoded` or raises:
        VideoError: the file cannot be used, or the child died of it (code `undecodable_video`).
        DecodeTimeoutError: the child took longer than `seconds`.
        InvalidValueError: the sampling does not fit the video.
        OSError: the file cannot be opened.
        EngineError: the pool is closed, or children cannot be started for a minute.
    """

    def __init__(
        self,
        size: int,
        *,
        reader: ReaderName = "pyav",
        seconds: float = 30.0,
        limits: DecodeLimits | None = None,
        child_limits: ChildLimits | None = None,
    ) -> None:
        self.reader: ReaderName = reader
        self._seconds = seconds
        self._child_limits = child_limits or ChildLimits()
        self._setup = wire.Setup(os.getpid(), reader, limits or DecodeLimits(), self._child_limits)
        self._changed = Condition()  # holds for everything below
        self._jobs = deque[_Job]()
        self._children = set[ChildProcess]()
        self._num_idle = self._num_failed_starts = 0
        self._is_closed = False
        self._threads = [Thread(target=self._serve, daemon=True, name="decode") for _ in range(size)]

    @property
    def size(self) -> int:
        return len(self._threads)

    @property
    def num_idle(self) -> int:
        """Children that are ready for a file now."""
        return self._num_idle

    @property
    def pids(self) -> list[int]:
        """Processes of the children as they are now, also of dead ones that nobody has waited for yet."""
        with self._changed:
            return [child.pid for child in self._children]

    def start(self) -> None:
        """Start every child and wait until all are ready.

        Raises:
            EngineError: they do not start.
        """
        for thread in self._threads:
            thread.start()
        with self._changed:
            self._changed.wait_for(
                lambda: self._num_idle == self.size or self._num_failed_starts or self._is_closed
            )
            has_failed = self._num_idle < self.size
        if has_failed:
            self.close()
            raise _no_start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill every child, also those at work, and wait until they are gone. Idempotent."""
        with self._changed:
            self._is_closed = True
            for child in self._children:
                child.kill()
            self._changed.notify_all()
        self._fail_waiting(_stopping())
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def probe(self, path: Path) -> Future[Decoded]:
        """Facts of a video; every packet counted, the first frame decoded."""
        return self._submit(path, wire.Request("probe"), _as_it_is)

    def decode(
        self, path: Path, sampling: Sampling, sizes: Sequence[FrameSize], default_frames: int
    ) -> Future[Decoded]:
        """The sampled frames in every size, decoded once, as sealed memory files."""
        request = wire.Request("frames", sampling, tuple(dict.fromkeys(sizes)), default_frames)
        return self._submit(path, request, _as_it_is)

    def thumbnails(
        self, path: Path, sampling: Sampling, size: FrameSize, default_frames: int, side: int = 0
    ) -> Future[Decoded]:
        """Exactly a model's input frames, as JPEG; `side` scales them for display."""
        request = wire.Request("thumbnails", sampling, (size,), default_frames, side)
        return self._submit(path, request, _as_it_is)

    def read(self, path: Path, request: wire.Request) -> Future[NDArray[np.uint8]]:
        """A request's frames in memory of this process, (num_frames, side, side, 3); for training."""
        return self._submit(path, request, Decoded.take_pixels)

    def _submit(self, path: Path, request: wire.Request, finish: Callable[[Decoded], _T]) -> Future[_T]:
        """Let the next free child answer a request about a file."""
        job = _Job(path, request, finish)
        with self._changed:
            if not self._is_closed:
                self._jobs.append(job)
                self._changed.notify_all()
                return job.future
        _fail(job, _stopping())
        return job.future

    def _serve(self) -> None:
        """What each thread does: keep one child, until the pool is closed."""
        while (child := self._started()) is not None:
            try:
                while (job := self._taken(child)) is not None and self._answer(child, job):
                    pass
            finally:
                self._end(child)

    def _started(self) -> ChildProcess | None:
        """A child that is ready; None once the pool is closed."""
        pause, begin = _FIRST_PAUSE, time.monotonic()
        while not self._is_closed:
            if (child := self._start_one()) is not None:
                return child
            with self._changed:
                self._num_failed_starts += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._is_closed, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            if time.monotonic() - begin > _PATIENCE and not self.pids:
                self._fail_waiting(_no_start())
        return None

    def _start_one(self) -> ChildProcess | None:
        try:
            child = ChildProcess(self._setup)
        except OSError:  # no memory, processes or descriptors left at the moment
            return None
        with self._changed:
            self._children.add(child)
            if self._is_closed:
                child.kill()
        try:
            child.wait_until_ready(_START_SECONDS)
        except (EOFError, OSError):
            self._end(child)
            return None
        return child

    def _end(self, child: ChildProcess) -> None:
        child.end()
        with self._changed:
            self._children.discard(child)

    def _taken(self, child: ChildProcess) -> _Job | None:
        """The next job for a child; None once the child is dead or the pool closed."""
        with self._changed:
            self._num_idle += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._jobs or self._is_closed)
            self._num_idle -= 1
            # one that died before it saw a file is not the next file's fault
            is_usable = child.is_alive and not self._is_closed
            return self._jobs.popleft() if is_usable else None

    def _fail_waiting(self, error: EngineError) -> None:
        with self._changed:
            waiting = [*self._jobs]
            self._jobs.clear()
        for job in waiting:
            _fail(job, error)

    def _answer(self, child: ChildProcess, job: _Job) -> bool:
        """Let a child do a job; whether it may do another one, only after a clean answer."""
        if job.future.cancelled():
            return True
        job.future.add_done_callback(lambda future: child.kill() if future.cancelled() else None)
        try:
            decoded = self._decoded(child, job)
            result = job.finish(decoded)
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits must hear of it
            return _fail(job, error) and self._is_good(child)
        try:
            job.future.set_result(result)
        except InvalidStateError:  # given up on meanwhile
            decoded.close()
            return False
        return self._is_good(child)

    def _is_good(self, child: ChildProcess) -> bool:
        return child.is_clean and child.files < self._child_limits.files

    def _decoded(self, child: ChildProcess, job: _Job) -> Decoded:
        memories = FrameMemories()
        try:
            with _opened(job.path) as video:
                memories.make(job.request)
                reply = self._ask(child, job.request, [video, *memories.values()])
            memories.check(job.request, len(reply.indices))
        except BaseException:
            memories.close()
            raise
        seconds = time.monotonic() - job.begin
        return Decoded(reply.facts, reply.indices, reply.timestamps, reply.jpegs, memories, seconds)

    def _ask(self, child: ChildProcess, request: wire.Request, fds: Sequence[int]) -> wire.Reply:
        late = DecodeTimeoutError(f"the video was not decoded within {self._seconds:g} s")
        try:
            return child.ask(request, fds, self._seconds)
        except TimeoutError:
            raise late from None
        except (EOFError, OSError, wire.WireError) as error:
            if child.end() == -signal.SIGXCPU:
                raise late from None
            raise refusals.undecodable() from error


def _as_it_is(decoded: Decoded) -> Decoded:
    return decoded


def _fail(job: _Job, error: BaseException) -> bool:
    """Tell it; False where nobody waits any more."""
    try:
        job.future.set_exception(error)
    except InvalidStateError:
        return False
    return True


def _stopping() -> EngineError:
    return EngineError("the server is stopping; no more videos are decoded", code="stopping")


def _no_start() -> EngineError:
    return EngineError("the decode children do not start; `python -m bt_model.decoding.child` says why")


@contextmanager
def _opened(path: Path) -> Generator[int]:
    """A read-only descriptor of the file; opening a pipe does not wait for a writer."""
    video = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield video
    finally:
        os.close(video)
