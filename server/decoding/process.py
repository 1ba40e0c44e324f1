"""One decode child, seen from the web process."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from server.decoding import wire

_ROOT = Path(__file__).parents[2]  # where the packages `server` and `bt_model` are
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH")


class ChildProcess:
    """A running child and our end of its socket pair. Whoever takes it must kill it, hang up and reap it."""

    def __init__(self, setup: wire.Setup) -> None:
        """Raises OSError where no process or descriptor is to be had."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _started(theirs)
        except OSError:
            ours.close()
            raise
        ours.setblocking(False)
        with contextlib.suppress(BrokenPipeError):  # it died already, which `ready` finds out
            ours.send(setup.pack())
        self._socket = ours
        self.files = 0

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def ready(self) -> None:
        """Wait until it has imported everything and limited itself.

        Raises:
            EOFError: it died before.
        """
        await self._receive(len(wire.READY))

    async def ask(self, request: wire.Request, fds: Sequence[int]) -> wire.Reply:
        """Hand over one file and wait for the reply. After an error the child must not be used again.

        Raises:
            BtchatError: the child refuses the file.
            EOFError, OSError: it died.
            wire.WireError: it talks nonsense.
        """
        self.files += 1
        socket.send_fds(self._socket, [request.pack()], fds)
        (num_bytes,) = wire.HEADER.unpack(await self._receive(wire.HEADER.size))
        if num_bytes > wire.MAX_REPLY_BYTES:
            raise wire.WireError(f"a reply of {num_bytes} bytes; at most {wire.MAX_REPLY_BYTES} are allowed")
        return wire.unpack_reply(await self._receive(num_bytes))

    async def _receive(self, num_bytes: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < num_bytes:
            piece = await loop.sock_recv(self._socket, min(num_bytes - len(data), 1 << 20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def kill(self) -> None:
        """End it now; whoever waits for its reply is told by EOFError. Idempotent."""
        self._process.kill()

    def hang_up(self) -> None:
        """Close our end; nobody may be waiting for a reply any more. Idempotent."""
        self._socket.close()

    def reap(self) -> int:
        """Wait for the killed process to be gone; its exit status, negative for a signal. Blocks."""
        return self._process.wait()


def _started(connection: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: nothing is imported from the working directory
        [sys.executable, "-P", "-m", "server.decoding.child"],
        stdin=connection.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=_environment(),
        start_new_session=True,  # Ctrl-C in the terminal is for the parent
    )


def _environment() -> dict[str, str]:
    """Nothing of ours that a hostile file could be after; one thread for libraries that start their own."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**kept, "PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
