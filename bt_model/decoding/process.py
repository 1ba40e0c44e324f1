"""One decode child, seen from the process that started it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from bt_model.decoding import wire
from bt_model.decoding.decoded import Decoded, FrameMemories
from bt_model.decoding.kept import FrameKeeper, KeptFrames
from bt_model.decoding.queue import DecodeJob, FrameCount
from bt_model.errors import PartlyDecodedError, VideoError
from bt_model.video import refusals

_ROOT = Path(__file__).parents[2]  # where the package `bt_model` is
_COMMAND = ("-P", "-m", "bt_model.decoding.child")  # -P: nothing is imported from the working directory
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH")
_BLOCK = 1 << 20  # bytes


class DiedError(Exception):
    """A child died of what may not be its file's fault.

    Somebody else, or the kernel for want of memory, killed it; or decord crashed, where PyAV may not.
    """


class ChildProcess:
    """A running child and our end of its socket pair. Whoever takes it must kill it, hang up and reap it.

    Only `kill` may be called from another thread than the one that started it; it dies with that thread.
    """

    def __init__(self, setup: wire.Setup) -> None:
        """Raises OSError if no process or descriptor is available."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _started(theirs)
        except OSError:
            ours.close()
            raise
        with contextlib.suppress(BrokenPipeError):  # it died already, which `wait_until_ready` finds out
            ours.send(setup.pack())
        self._socket = ours
        self._reader = setup.reader
        self._limits = setup.child_limits
        self._seconds = self._limits.seconds  # that it has for its file
        self.files = 0
        self.is_given_up = False  # nobody wants its reply any more
        self.is_clean = True  # what it did last ended well

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self, seconds: float) -> wire.ChildReport:
        """Wait until it has imported everything and restricted itself; what it says of that.

        Raises:
            EOFError, OSError: it died before, or takes longer.
        """
        return wire.ChildReport.unpack(self._message(time.monotonic() + seconds))

    def decode(self, job: DecodeJob, keeper: FrameKeeper) -> Decoded:
        """What becomes of one file; `is_clean` says whether this child can have another one.

        Raises:
            BtchatError: the child refuses the file, died of it, or has no reply in time; `keeper` has what
                frames there are then.
            DiedError: the file deserves a second try.
            OSError: the file cannot be opened.
        """
        is_plan = job.request.job == "plan"  # leaves what is kept for the decode
        memories, kept = FrameMemories(), KeptFrames() if is_plan else keeper.take(job)
        try:
            with _opened(job.path) as video:
                memories.make(job.request)
                reply = self.ask(job, kept, [video, *memories.values(), *kept.memories.values()])
            if is_plan or job.request.job == "thumbnails":
                memories.close()  # these are handed over as JPEG
            memories.check(job.request, len(reply.indices))
            kept.memories.close()
        except PartlyDecodedError as error:
            kept.memories.close()
            _keep(keeper, job, KeptFrames(error.indices, memories, memories.num_bytes))
            raise
        except BaseException:
            memories.close()
            keeper.put(job, kept)
            raise
        took = time.monotonic() - job.begin
        chosen = reply.indices, reply.timestamps, reply.num_wanted, reply.reader
        found = reply.index, reply.demuxed, reply.is_recounted, reply.num_pixels, reply.allowed_seconds
        return Decoded(reply.facts, *chosen, reply.jpegs, memories, took, *found)

    def ask(self, job: DecodeJob, kept: KeptFrames, fds: Sequence[int]) -> wire.Reply:
        """Hand over one file, opened, and the memory files, and wait for the reply. Raises as `decode`."""
        self._seconds = self._limits.seconds
        try:
            return self._reply(replace(job.request, done=kept.indices), fds, job.count)
        except TimeoutError:
            raise refusals.too_slow(self._seconds) from None
        except (EOFError, OSError, wire.WireError) as error:
            status = self.end()
            if status == -signal.SIGXCPU:
                raise refusals.too_slow(self._seconds) from None
            is_excused = status == -signal.SIGKILL or self._reader == "decord"
            if is_excused and not (self.is_given_up or job.request.is_second_try):
                raise DiedError from error
            raise refusals.undecodable() from error

    def _reply(self, request: wire.Request, fds: Sequence[int], count: FrameCount) -> wire.Reply:
        self.files += 1
        self.is_clean = False
        deadline = time.monotonic() + self._seconds
        message = memoryview(request.pack())
        self._socket.settimeout(self._seconds)
        sent = socket.send_fds(self._socket, [message], fds)
        self._socket.sendall(message[sent:])  # an index may be longer than what a socket holds
        reply = self._told(deadline, count)
        self.is_clean = isinstance(reply, wire.Reply) or reply.is_clean
        if isinstance(reply, wire.Refusal):
            raise reply.error
        return reply

    def _told(self, deadline: float, count: FrameCount) -> wire.Reply | wire.Refusal:
        """The reply; what the child says of its work before is heard, so often and no more."""
        num_workloads = num_counts = 0
        while not isinstance(said := wire.unpack_reply(self._message(deadline)), (wire.Reply, wire.Refusal)):
            if isinstance(said, wire.Workload):
                num_workloads += 1
                self._seconds = self._limits.allowed(said.num_pixels)
                deadline = time.monotonic() + self._seconds
            else:
                num_counts += 1
                count(said.num_frames, said.num_wanted)
            if num_workloads > wire.MAX_WORKLOADS or num_counts > wire.MAX_COUNTS:
                raise wire.WireError(
                    f"{num_workloads} times work is told, and {num_counts} times how far it is"
                )
        return said

    def _message(self, deadline: float) -> bytes:
        (num_bytes,) = wire.HEADER.unpack(self._receive(wire.HEADER.size, deadline))
        if num_bytes > wire.MAX_REPLY_BYTES:
            raise wire.WireError(f"a reply of {num_bytes} bytes; at most {wire.MAX_REPLY_BYTES} are allowed")
        return self._receive(num_bytes, deadline)

    def _receive(self, num_bytes: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < num_bytes:
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise TimeoutError
            self._socket.settimeout(seconds)
            try:
                piece = self._socket.recv(min(num_bytes - len(data), _BLOCK))
            except ConnectionResetError:  # it died before it had read all that it was sent
                piece = b""
            if not piece:
                raise EOFError("the decoder died of it")
            data += piece
        return bytes(data)

    def kill(self) -> None:
        """End it now; whoever waits for its reply is told by EOFError. Idempotent, from any thread."""
        self.is_given_up = True
        self._process.kill()

    def end(self) -> int:
        """Kill it, close our end and wait until it is gone; its exit status, negative for a signal."""
        self._process.kill()
        self._socket.close()
        return self._process.wait()


def _keep(keeper: FrameKeeper, job: DecodeJob, frames: KeptFrames) -> None:
    try:
        frames.memories.check(job.request, len(frames.indices))
    except VideoError:
        frames.memories.close()
        raise
    keeper.put(job, frames)


@contextlib.contextmanager
def _opened(path: Path) -> Generator[int]:
    """A read-only descriptor of the file; opening a pipe does not wait for a writer."""
    video = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield video
    finally:
        os.close(video)


def _started(connection: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *_COMMAND],
        stdin=connection.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=_environment(),
        start_new_session=True,  # Ctrl-C in the terminal is for the parent
    )


def _environment() -> dict[str, str]:
    """An environment without secrets; one thread for libraries that start their own."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**kept, "PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
