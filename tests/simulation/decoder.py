"""Simulated decode children behind the pool's interface: futures of what they make of a file."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from bt_model.decoding.decoded import Decoded, FrameMemories
from bt_model.decoding.kept import FrameKeeper
from bt_model.decoding.queue import DecodeJob, FrameCount, JobQueue, ignored
from bt_model.decoding.wire import Request
from bt_model.errors import DecodeQueueFullError, DecodeTimeoutError, VideoError
from bt_model.types import FrameSize, ReaderName, Sampling, VideoFacts
from tests.simulation.draws import Draws
from tests.simulation.loop import TICK, SimulatedLoop
from tests.simulation.trace import Trace

FACTS = VideoFacts(96, 96, 64, 16.0, 4.0, 0, "h264", "mp4", has_audio=False)

_BOXES = b"\x00\x00\x00\x18ftypisom" + bytes(12) + b"\x00\x00\x00\x08moov"
_NAME_AT = 64  # first bytes tell the container


def file_of(name: bytes) -> bytes:
    """A whole file of boxes, in whose last one the name is that tokens have."""
    free = bytes(_NAME_AT - len(_BOXES) - 8) + name
    return _BOXES + (8 + len(free)).to_bytes(4, "big") + b"free" + free


def name_in(content: bytes) -> str:
    return content[_NAME_AT:].decode()


BROKEN = b"broken"
"""A file whose bytes hold this is no video."""

_MOST_WAITING, _MOST_WAITING_PER_OWNER = 12, 5
_SIZE = 2
_RESTART_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class DecodeFaults:
    """What goes wrong in decode children from now on."""

    deaths: float = 0.0  # share of files
    timeouts: float = 0.0
    slowness: float = 1.0


class SimulatedDecoder:
    """Children that take one file after the other; a cancelled future ends its child."""

    reader: ReaderName = "pyav"
    size = _SIZE

    def __init__(
        self,
        loop: SimulatedLoop,
        draws: Draws,
        trace: Trace,
        read: Callable[[Path], bytes],
        *,
        has_keys: bool,
    ) -> None:
        self._loop = loop
        self._draws = draws
        self._trace = trace
        self._read = read
        self.faults = DecodeFaults()
        self.num_idle = _SIZE
        self.keeper = FrameKeeper(0)
        self.jobs = JobQueue(_MOST_WAITING, _MOST_WAITING_PER_OWNER if has_keys else _MOST_WAITING, _SIZE)
        self.was_full = False
        self.working: dict[Future[Decoded], str] = {}  # what children are at work on

    def probe(self, path: Path, *, owner: str = "") -> Future[Decoded]:
        return self._submit(DecodeJob(path, Request("probe", index=b""), owner))

    def decode(
        self,
        path: Path,
        sampling: Sampling,
        sizes: Sequence[FrameSize],
        default: int,
        *,
        owner: str = "",
        index: bytes = b"",
        count: FrameCount = ignored,
    ) -> Future[Decoded]:
        request = Request("frames", sampling, tuple(dict.fromkeys(sizes)), default, index)
        return self._submit(DecodeJob(path, request, owner, count=count))

    def thumbnails(
        self,
        path: Path,
        sampling: Sampling,
        size: FrameSize,
        default: int,
        *,
        owner: str = "",
        index: bytes = b"",
    ) -> Future[Decoded]:
        request = Request("thumbnails", sampling, (size,), default, index)
        return self._submit(DecodeJob(path, request, owner))

    def _submit(self, job: DecodeJob) -> Future[Decoded]:
        try:
            self.jobs.add(job)
        except DecodeQueueFullError as error:
            self.was_full = True
            job.future.set_exception(error)
            return job.future
        job.future.add_done_callback(
            lambda future: self.jobs.leave(job.owner, future) if future.cancelled() else None
        )
        self._loop.call_later(TICK, self._next)
        return job.future

    def _next(self) -> None:
        while self.num_idle and self.jobs:
            self.num_idle -= 1
            self._begin(self.jobs.take())

    def _begin(self, job: DecodeJob) -> None:
        job.future.add_done_callback(self._ended)
        try:
            content = self._read(job.path)
        except OSError as error:
            self._loop.call_later(TICK, self._fail, job, error)
            return
        self.working[job.future] = name_in(content)
        seconds = self._draws.between(0.01, 0.3) * self.faults.slowness
        self._loop.call_later(seconds, self._finish, job, content)

    def _finish(self, job: DecodeJob, content: bytes) -> None:
        if job.future.cancelled():
            return
        if BROKEN in content or self._draws.chance(self.faults.deaths):
            self._fail(job, VideoError("simulated: cannot be decoded"))
            return
        if self._draws.chance(self.faults.timeouts):
            self._fail(job, DecodeTimeoutError("simulated: took too long"))
            return
        request, index = job.request, f"{job.owner}'s {name_in(content)}".encode()
        if request.index not in (b"", index):
            self._fail(job, AssertionError(f"{request.index} came with {index}"))
            return
        number = request.sampling.num_frames or request.default_frames
        memories = FrameMemories()
        for size in request.sizes if request.job == "frames" else ():
            memories[size] = os.memfd_create("frames", os.MFD_CLOEXEC)
            os.write(memories[size], video_text(content, request.sampling, number).encode())
        indices = tuple(range(number))
        times = tuple(index / 16 for index in indices)
        shown = indices if request.job == "thumbnails" else ()
        jpegs = tuple(video_text(content, request.sampling, index).encode() for index in shown)
        news = b"" if request.index else index
        job.future.set_result(
            Decoded(FACTS, indices, times, number, "simulated", jpegs, memories, 0.01, news)
        )

    def _fail(self, job: DecodeJob, error: Exception) -> None:
        if not job.future.cancelled():
            job.future.set_exception(error)

    def _ended(self, future: Future[Decoded]) -> None:
        """The child is free; one that was given up on, or failed, is replaced first."""
        self.working.pop(future, None)
        is_bad = future.cancelled() or future.exception() is not None
        self._loop.call_later(_RESTART_SECONDS if is_bad else TICK, self._free)

    def _free(self) -> None:
        self.num_idle += 1
        self._next()


def video_text(content: bytes, sampling: Sampling, number: int) -> str:
    """What tokens of these frames say: the file and how it was sampled."""
    return json.dumps([name_in(content), number, sampling.strategy, sampling.seed])
