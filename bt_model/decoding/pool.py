"""A pool of disposable decode children, started before they are needed and replaced after a few files.

Each child has a thread that starts it, hands it one file after the other, and starts the next one. Who asks
gets a future; cancelling it kills the child at work. Here descriptors of videos and frames are passed on.
"""

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import replace
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bt_model.decoding import wire
from bt_model.decoding.decoded import Decoded
from bt_model.decoding.kept import FrameKeeper
from bt_model.decoding.process import ChildProcess, DiedError
from bt_model.decoding.queue import DecodeJob, FrameCount, JobQueue, ignored
from bt_model.decoding.sandbox import ChildLimits
from bt_model.errors import EngineError
from bt_model.types import FrameSize, ReaderName, Sampling
from bt_model.video.refusals import DecodeLimits
from bt_model.video.sample import SingleFrame

_START_SECONDS = 60.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_PATIENCE = 60.0  # seconds without any child until those who wait are told


class DecodePool:
    """`size` children at a time. One that fails, dies, hangs or whose caller has left is killed and replaced.

    Every future ends in a `Decoded` or raises:
        VideoError: the file cannot be used, or the child died of it (code `undecodable_video`).
        DecodeTimeoutError: it took longer than allowed; after PartlyDecodedError the same request goes on.
        InvalidValueError: the sampling does not fit the video.
        OSError: the file cannot be opened.
        DecodeQueueFullError: too many wait, in all or of the same owner.
        EngineError: the pool is closed, or children cannot be started for a minute.

    Owners take turns; each one's files are decoded in the order they came in.
    """

    def __init__(
        self,
        size: int,
        *,
        reader: ReaderName = "pyav",
        seconds: float = 30.0,
        limits: DecodeLimits | None = None,
        child_limits: ChildLimits | None = None,
        most_waiting: float = math.inf,
        most_waiting_per_owner: float = math.inf,
    ) -> None:
        self.reader: ReaderName = reader
        self._child_limits = replace(child_limits or ChildLimits(), seconds=seconds)
        self._setup = wire.Setup(os.getpid(), reader, limits or DecodeLimits(), self._child_limits)
        self.keeper = FrameKeeper(self._setup.limits.max_decoded_bytes)
        self._changed = Condition()  # holds for everything below
        self._jobs = JobQueue(most_waiting, most_waiting_per_owner, size)
        self._children = set[ChildProcess]()
        self._num_idle = self._num_failed_starts = 0
        self._is_closed = False
        self._report: wire.ChildReport | None = None
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

    @property
    def num_waiting(self) -> int:
        """Files that wait for a child."""
        with self._changed:
            return len(self._jobs)

    @property
    def report(self) -> wire.ChildReport:
        """What the child that started last says of its sandbox and of FFmpeg; the pool must have started."""
        assert self._report is not None, "a child was ready before `start` returned"
        return self._report

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start every child and wait until all are ready; raises EngineError if they do not start."""
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

    def close(self) -> None:
        """Kill every child, also those at work, and wait until they are gone. Idempotent."""
        with self._changed:
            self._is_closed = True
            for child in self._children:
                child.kill()
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._fail_waiting(_stopping())  # also what a thread has put back
        self.keeper.close()

    def probe(self, path: Path, *, owner: str = "") -> Future[Decoded]:
        """Facts of a video; every packet counted, the first frame decoded."""
        return self._submit(DecodeJob(path, wire.Request("probe", index=b""), owner))

    def plan(self, path: Path, request: wire.Request, *, owner: str = "") -> Future[Decoded]:
        """Which frames a request gives, and what its decode takes, by the packets; nothing is decoded."""
        return self._submit(DecodeJob(path, replace(request, job="plan"), owner))

    def decode(
        self,
        path: Path,
        sampling: Sampling,
        sizes: Sequence[FrameSize],
        default_frames: int,
        *,
        owner: str = "",
        index: bytes = b"",
        count: FrameCount = ignored,
    ) -> Future[Decoded]:
        """The sampled frames in every size, decoded once, as sealed memory files; `index`: see `Decoded`."""
        request = wire.Request("frames", sampling, tuple(dict.fromkeys(sizes)), default_frames, index)
        return self._submit(DecodeJob(path, request, owner, count=count))

    def thumbnails(
        self,
        path: Path,
        sampling: Sampling,
        size: FrameSize,
        default_frames: int,
        *,
        owner: str = "",
        index: bytes = b"",
    ) -> Future[Decoded]:
        """Exactly a model's input frames, as JPEG."""
        request = wire.Request("thumbnails", sampling, (size,), default_frames, index)
        return self._submit(DecodeJob(path, request, owner))

    def picture(
        self, path: Path, single: SingleFrame, width: int, *, owner: str = "", index: bytes = b""
    ) -> Future[Decoded]:
        """One frame as a player shows it, so wide, as JPEG."""
        request = wire.Request("thumbnails", sizes=(FrameSize(width, "wide"),), index=index, single=single)
        return self._submit(DecodeJob(path, request, owner))

    def read(self, path: Path, request: wire.Request) -> Future[NDArray[np.uint8]]:
        """A request's frames in memory of this process, (num_frames, side, side, 3); for training."""
        return self._submit(DecodeJob(path, request, "", Decoded.take_pixels))

    def _submit(self, job: DecodeJob) -> Future[Any]:
        """Let the next free child answer a request about a file."""
        try:
            with self._changed:
                if self._is_closed:
                    raise _stopping()
                self._jobs.add(job)
                self._changed.notify_all()
        except EngineError as error:
            job.fail(error)
        else:
            job.future.add_done_callback(lambda future: self._leave(job) if future.cancelled() else None)
        return job.future

    def _leave(self, job: DecodeJob) -> None:
        with self._changed:
            self._jobs.leave(job.owner, job.future)

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
            self._report = child.wait_until_ready(_START_SECONDS)
        except (EOFError, OSError):
            self._end(child)
            return None
        return child

    def _end(self, child: ChildProcess) -> None:
        child.end()
        with self._changed:
            self._children.discard(child)

    def _taken(self, child: ChildProcess) -> DecodeJob | None:
        """The next job for a child; None once the child is dead or the pool closed."""
        with self._changed:
            self._num_idle += 1
            self._changed.notify_all()
            while not (self._jobs or self._is_closed):
                self._changed.wait(self.keeper.drop_old())
            self._num_idle -= 1
            if self._is_closed or not child.is_alive:  # that it died before is not the next file's fault
                return None
            return self._jobs.take()

    def _fail_waiting(self, error: EngineError) -> None:
        with self._changed:
            waiting = self._jobs.clear()
        for job in waiting:
            job.fail(error)

    def _answer(self, child: ChildProcess, job: DecodeJob) -> bool:
        """Let a child do a job; whether it may do another one, only after a clean answer."""
        if job.future.cancelled():
            return True
        job.future.add_done_callback(lambda future: child.kill() if future.cancelled() else None)
        begin = time.monotonic()
        try:
            decoded = child.decode(job, self.keeper)
            result = job.finish(decoded)
        except DiedError:
            with self._changed:
                self._jobs.put_back(replace(job, request=replace(job.request, is_second_try=True)))
                self._changed.notify_all()
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits must hear of it
            return job.fail(error) and self._is_good(child)
        finally:
            with self._changed:
                self._jobs.learn(time.monotonic() - begin)
        try:
            job.future.set_result(result)
        except InvalidStateError:  # given up on meanwhile
            decoded.close()
            return False
        return self._is_good(child)

    def _is_good(self, child: ChildProcess) -> bool:
        return child.is_clean and child.files < self._child_limits.files


def _stopping() -> EngineError:
    return EngineError("the server is stopping; no more videos are decoded", code="stopping")


def _no_start() -> EngineError:
    return EngineError("the decode children do not start; `python -m bt_model.decoding.child` says why")
