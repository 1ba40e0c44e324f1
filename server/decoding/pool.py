"""A pool of disposable decode children, warmed up before they are needed and replaced after a few files.

The web process never looks into a video and never maps decoded frames: it passes descriptors on.
"""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bt_model.errors import DecodeTimeoutError, EngineError, InvalidValueError
from bt_model.types import FrameSize, Sampling, VideoFacts
from bt_model.video import refusals
from bt_model.video.decode import ReaderName
from bt_model.video.refusals import DecodeLimits
from server.decoding import wire
from server.decoding.process import ChildProcess
from server.decoding.sandbox import ChildLimits

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_START_SECONDS = 60.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


@dataclass(slots=True)
class DecodedFrames:
    """The same frames in one or more sizes, each in a sealed memory file; the owner closes them.

    A file holds uint8 (num_frames, side, side, 3).
    """

    memories: dict[FrameSize, int]
    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    facts: VideoFacts
    seconds: float

    @property
    def num_frames(self) -> int:
        return len(self.indices)

    def close(self) -> None:
        """Give the memory back. Idempotent."""
        _close_all(self.memories)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The model's frames as JPEG files."""

    jpegs: tuple[bytes, ...]
    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    facts: VideoFacts
    seconds: float


class DecodePool:
    """`size` children at a time. One that errs, dies, hangs or is given up on is killed and replaced.

    Every method that takes a file raises:
        VideoError: the file cannot be used, or the child died of it (code `undecodable_video`).
        DecodeTimeoutError: the child took longer than `seconds`.
        InvalidValueError: the sampling does not fit the video.
        EngineError: the pool is closed.
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
        self._size = size
        self._seconds = seconds
        self._child_limits = child_limits or ChildLimits()
        self._setup = wire.Setup(os.getpid(), reader, limits or DecodeLimits(), self._child_limits)
        self._children: set[ChildProcess] = set()
        self._idle: asyncio.Queue[ChildProcess | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def num_idle(self) -> int:
        """Children that are ready for a file now."""
        return self._idle.qsize()

    async def start(self) -> None:
        """Start every child and wait until all are ready.

        Raises:
            EngineError: they do not start.
        """
        started = await asyncio.gather(*(self._spawn() for _ in range(self._size)))
        if not all(started):
            await self.close()
            raise EngineError("the decode children do not start; `python -m server.decoding.child` says why")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Kill every child, also those at work, and wait until they are gone."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in self._children:
            child.kill()
        await asyncio.gather(*(asyncio.to_thread(child.reap) for child in self._children))
        self._children.clear()
        while not self._idle.empty():
            if (child := self._idle.get_nowait()) is not None:
                child.hang_up()
        self._idle.put_nowait(None)  # wakes who waits for a child

    async def probe(self, path: Path) -> VideoFacts:
        """Facts of a video; every packet counted, the first frame decoded."""
        with _opened(path) as video:
            return (await self._ask(wire.Request("probe"), [video])).facts

    async def decode(
        self, path: Path, sampling: Sampling, sizes: Sequence[FrameSize], default_frames: int
    ) -> DecodedFrames:
        """The sampled frames in every size, decoded once, as sealed memory files that the caller owns."""
        request = wire.Request("frames", sampling, tuple(dict.fromkeys(sizes)), default_frames)
        begin = time.monotonic()
        memories: dict[FrameSize, int] = {}
        try:
            for size in request.sizes:
                memories[size] = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                os.ftruncate(memories[size], request.max_bytes(size))  # takes no memory until it is written
            with _opened(path) as video:
                reply = await self._ask(request, [video, *memories.values()])
            for size, memory in memories.items():
                _check_memory(memory, len(reply.indices), size.side)
        except BaseException:
            _close_all(memories)
            raise
        seconds = time.monotonic() - begin
        return DecodedFrames(memories, reply.indices, reply.timestamps, reply.facts, seconds)

    async def thumbnails(
        self, path: Path, sampling: Sampling, size: FrameSize, default_frames: int, side: int = 0
    ) -> Thumbnails:
        """Exactly the frames that a model sees, as JPEG; `side` scales them for display."""
        request = wire.Request("thumbnails", sampling, (size,), default_frames, side)
        begin = time.monotonic()
        with _opened(path) as video:
            reply = await self._ask(request, [video])
        seconds = time.monotonic() - begin
        return Thumbnails(reply.jpegs, reply.indices, reply.timestamps, reply.facts, seconds)

    async def _ask(self, request: wire.Request, fds: Sequence[int]) -> wire.Reply:
        """Let the next free child answer; it goes back to the pool only after a clean answer."""
        child = await self._take()
        clean = False
        try:
            async with asyncio.timeout(self._seconds):
                reply = await child.ask(request, fds)
            clean = child.files < self._child_limits.files
        except InvalidValueError:  # the request's fault, not the file's
            clean = child.files < self._child_limits.files
            raise
        except TimeoutError:
            raise self._timed_out() from None
        except (EOFError, OSError, wire.WireError):
            child.kill()
            status = await asyncio.to_thread(child.reap)
            raise (self._timed_out() if status == -signal.SIGXCPU else refusals.undecodable()) from None
        finally:
            if clean and not self._closed:
                self._idle.put_nowait(child)
            else:
                self._replace(child)
        return reply

    async def _take(self) -> ChildProcess:
        while True:
            child = await self._idle.get()
            if child is None or self._closed:
                self._idle.put_nowait(None)  # for the next one who waits
                raise EngineError("the server is stopping; no more videos are decoded", code="stopping")
            if child.is_alive:
                return child
            self._replace(child)  # it died before it saw a file, which is not the next file's fault

    def _timed_out(self) -> DecodeTimeoutError:
        return DecodeTimeoutError(f"the video was not decoded within {self._seconds:g} s")

    def _replace(self, child: ChildProcess) -> None:
        child.kill()
        child.hang_up()
        if not self._closed:
            task = asyncio.create_task(self._refill(child))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _refill(self, dead: ChildProcess) -> None:
        await asyncio.to_thread(dead.reap)
        self._children.discard(dead)
        pause = _FIRST_PAUSE
        while not await self._spawn():
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _spawn(self) -> bool:
        """Start one child and put it to the idle ones; False if it does not come up."""
        try:
            child = ChildProcess(self._setup)
        except OSError:  # no memory, processes or descriptors left at the moment
            return False
        self._children.add(child)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await child.ready()
        except (TimeoutError, EOFError, OSError):
            child.kill()
            child.hang_up()
            await asyncio.to_thread(child.reap)
            self._children.discard(child)
            return False
        except asyncio.CancelledError:
            child.hang_up()
            raise
        self._idle.put_nowait(child)
        return True


def _close_all(memories: dict[FrameSize, int]) -> None:
    while memories:
        os.close(memories.popitem()[1])


@contextmanager
def _opened(path: Path) -> Generator[int]:
    """A read-only descriptor of the file."""
    video = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield video
    finally:
        os.close(video)


def _check_memory(memory: int, num_frames: int, side: int) -> None:
    """The child cut the memory file to the frames that it names, and nobody can change them any more."""
    sealed = fcntl.fcntl(memory, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    if num_frames == 0 or not sealed or os.fstat(memory).st_size != num_frames * 3 * side * side:
        raise refusals.undecodable()
