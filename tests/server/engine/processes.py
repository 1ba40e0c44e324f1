"""A real engine process at the other end of a socket pair."""

import os
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from server.engine import wire
from server.engine.connection import Connection
from server.engine.wire import Message

SECONDS = 30
Kind = TypeVar("Kind", bound=Message)


@dataclass
class EngineProcess:
    """One worker and our end of its socket."""

    process: subprocess.Popen[str]
    connection: Connection

    def expect(self, kind: type[Kind]) -> Kind:
        """The next message, which must be of this kind."""
        message, fds = self.receive()
        assert not fds
        assert isinstance(message, kind), message
        return message

    def receive(self) -> tuple[Message, tuple[int, ...]]:
        received = self.connection.receive()
        assert received is not None, "the engine is gone"
        return received

    def encode(self, request_id: str, key: bytes, frames: NDArray[np.uint8], receipt: dict[str, Any]) -> None:
        """Send frames (T, H, W, 3) in a sealed memory file."""
        num_frames, height, width, _ = frames.shape
        fd = os.memfd_create("frames")
        try:
            os.write(fd, frames.tobytes())
            self.connection.send(wire.Encode(request_id, key, num_frames, height, width, receipt), (fd,))
        finally:
            os.close(fd)

    def ask(self, request_id: str, key: bytes, text: str, **options: Any) -> None:
        self.connection.send(wire.Ask(request_id, key, [["user", text]], options, 60.0))

    def answer(self) -> tuple[str, wire.Done | wire.Failed]:
        """Pieces up to the terminal message."""
        text = ""
        while isinstance(message := self.receive()[0], wire.Piece):
            text += message.text
        assert isinstance(message, wire.Done | wire.Failed), message
        return text, message

    def num_fds(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208 - no path is needed

    def wait(self) -> int:
        return self.process.wait(SECONDS)


@contextmanager
def started(weights: Path, model: str, *arguments: str) -> Generator[EngineProcess]:
    """Start a worker; it is gone after the `with`, whatever happened."""
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    command: Sequence[str] = [
        sys.executable, "-m", "server.engine.worker", "--socket-fd", str(theirs.fileno()), "--threads", "1",
        "--max-batch", "2", "--device", "cpu", "--weights-dir", str(weights), "--model", model, *arguments,
    ]  # fmt: skip
    with theirs:
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)
    connection = Connection(ours)
    try:
        yield EngineProcess(process, connection)
    finally:
        connection.close()
        process.kill()
        process.communicate()
