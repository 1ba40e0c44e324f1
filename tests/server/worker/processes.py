"""A real engine process at the other end of a socket pair."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from server.engine import wire
from server.engine.packing import HEADER, pack, unpack
from server.engine.wire import Message
from tests import tiny

SECONDS = 90  # a busy machine takes long to import torch
Kind = TypeVar("Kind", bound=Message)


class Peer:
    """The web process's end of the socket, for a test that waits."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._fds: list[int] = []
        self.loading: list[wire.Loading] = []

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        socket.send_fds(self._sock, [pack(message)], list(fds))

    def receive(self) -> tuple[Message, list[int]]:
        """The next message but for those that tell how far a model is loaded."""
        num_bytes, num_fds = HEADER.unpack(self._take(HEADER.size))
        message = unpack(self._take(num_bytes))
        fds, self._fds = self._fds[:num_fds], self._fds[num_fds:]
        if isinstance(message, wire.Loading):
            self.loading.append(message)
            return self.receive()
        return message, fds

    def close(self) -> None:
        self._sock.close()

    def _take(self, num_bytes: int) -> bytes:
        while len(self._buffer) < num_bytes:
            data, fds, _, _ = socket.recv_fds(self._sock, 1 << 16, 8)
            assert data, "the engine is gone"
            self._buffer += data
            self._fds += fds
        taken, self._buffer = self._buffer[:num_bytes], self._buffer[num_bytes:]
        return taken


@dataclass
class EngineProcess:
    """One worker and our end of its socket."""

    process: subprocess.Popen[str]
    connection: Peer
    model: str
    holding: list[list[str]] = field(default_factory=list[list[str]])  # told so far

    def expect(self, kind: type[Kind]) -> Kind:
        """The next message, which must be of this kind."""
        message, fds = self.receive()
        assert not fds
        assert isinstance(message, kind), message
        return message

    def receive(self) -> tuple[Message, list[int]]:
        """The next message that answers something."""
        received = self.connection.receive()
        if isinstance(received[0], wire.Holding):
            self.holding.append(received[0].models)
            return self.receive()
        return received

    def encode(
        self,
        request_id: str,
        key: bytes | dict[str, bytes],
        frames: NDArray[np.uint8],
        receipt: dict[str, Any],
    ) -> None:
        """Send frames (T, H, W, 3) in a sealed memory file, for the first model or for those given."""
        num_frames, height, width, _ = frames.shape
        targets = [
            [name, each] for name, each in (key if isinstance(key, dict) else {self.model: key}).items()
        ]
        fd = os.memfd_create("frames")
        try:
            os.write(fd, frames.tobytes())
            message = wire.Encode(request_id, targets, num_frames, height, width, receipt)
            self.connection.send(message, (fd,))
        finally:
            os.close(fd)

    def ask(self, request_id: str, key: bytes, text: str, *, model: str = "", **options: Any) -> None:
        named = model or self.model
        videos = [[key, 0, 0]] if key else []
        self.connection.send(wire.Ask(request_id, named, "public", videos, [["user", text]], options, 60.0))

    def stats(self) -> wire.Stats:
        self.connection.send(wire.AskStats("s"))
        return self.expect(wire.Stats)

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
        sys.executable, "-m", "server.worker.__main__", "--socket-fd", str(theirs.fileno()), "--threads", "1",
        "--max-batch", "2", "--device", "cpu", "--weights-dir", str(weights), "--model", model,
        "--token-dir", str(weights / "none"), *arguments,
    ]  # fmt: skip
    with theirs:
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)
    connection = Peer(ours)
    try:
        yield EngineProcess(process, connection, model)
    finally:
        connection.close()
        process.kill()
        process.communicate()


def write_models(folder: Path) -> None:
    """Models in `folder`: several on one tower, and `second`, which has no branch, on a tower of its own."""
    tiny.write_model_folder(folder)
    shutil.copytree(folder / "tiny", folder / "second")
    tower = folder / "second" / "clip" / "model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(tower).items()}, tower)
    for path in (folder / "second").glob("*.model.json"):
        values = json.loads(path.read_text())
        path.unlink()  # only ids that differ can be served together
        if values["adapter"] is None:
            (folder / "second" / "second.model.json").write_text(json.dumps(values | {"id": "second"}))
