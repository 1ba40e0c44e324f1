"""One decode child, seen from the process that started it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bt_model.decoding import wire
from bt_model.errors import InvalidValueError

_ROOT = Path(__file__).parents[2]  # where the package `bt_model` is
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH")
_BLOCK = 1 << 20  # bytes


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
        self.files = 0
        self.is_clean = True  # what it did last ended well

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until it has imported everything and set its own limits.

        Raises:
            EOFError, OSError: it died before, or takes longer.
        """
        self._receive(len(wire.READY), time.monotonic() + seconds)

    def ask(self, request: wire.Request, fds: Sequence[int], seconds: float) -> wire.Reply:
        """Hand over one file and wait for the reply; `is_clean` says whether it can be asked again.

        Raises:
            BtchatError: the child refuses the file.
            TimeoutError: no reply within that time.
            EOFError, OSError: it died.
            wire.WireError: its reply is invalid.
        """
        self.files += 1
        self.is_clean = False
        deadline = time.monotonic() + seconds
        socket.send_fds(self._socket, [request.pack()], fds)
        (num_bytes,) = wire.HEADER.unpack(self._receive(wire.HEADER.size, deadline))
        if num_bytes > wire.MAX_REPLY_BYTES:
            raise wire.WireError(f"a reply of {num_bytes} bytes; at most {wire.MAX_REPLY_BYTES} are allowed")
        payload = self._receive(num_bytes, deadline)
        try:
            reply = wire.unpack_reply(payload)
        except InvalidValueError:  # the request's fault, not the file's
            self.is_clean = True
            raise
        self.is_clean = True
        return reply

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
        self._process.kill()

    def end(self) -> int:
        """Kill it, close our end and wait until it is gone; its exit status, negative for a signal."""
        self.kill()
        self._socket.close()
        return self._process.wait()


def _started(connection: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: nothing is imported from the working directory
        [sys.executable, "-P", "-m", "bt_model.decoding.child"],
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
