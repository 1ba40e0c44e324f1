"""Large uploads through a line that breaks: by OpenAI's client, by one that speaks tus, and by our own."""

import contextlib
import hashlib
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import openai

import btchat.client
from tests.clients.environments import NODE, WORK, AbsentError
from tests.reliability.goal import Figure, Goal, NotHereError
from tests.reliability.program import rss_bytes, served

_MIB = 1024 * 1024
_MAX_GROWN_BYTES = 30 * _MIB

Send = Callable[[str, Path, int], None]
"""Sends a file to a server, by its URL, in pieces of so many bytes."""


def by_openai(url: str, path: Path, piece_bytes: int) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=3) as client:
        done = client.uploads.upload_file_chunked(
            file=path, mime_type="video/mp4", purpose="user_data", part_size=piece_bytes
        )
    assert done.file is not None


def by_tus(url: str, path: Path, piece_bytes: int) -> None:
    """By tus-js-client, which has no part in this project."""
    try:
        start = NODE.start()
    except AbsentError as error:
        raise NotHereError(f"for tus-js-client: {error}") from error
    program = WORK / "node" / "programs" / "tus_upload.mjs"
    command = [*start, str(program), f"{url}/v1/video/uploads/resumable", str(path), str(piece_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def by_own_client(url: str, path: Path, _piece_bytes: int) -> None:
    with btchat.client.Client(url, state_dir=path.parent) as client:
        client.upload(path)


def measure(send: Send, is_full: bool) -> Figure:
    """A file through a line that is cut five times, by the client's own pieces and tries."""
    num_mib, num_cuts = (300, 5) if is_full else (12, 2)
    with served(is_fake=True) as program:
        padding = bytes(num_mib * _MIB)
        content = program.clip + (len(padding) + 8).to_bytes(4, "big") + b"free" + padding
        path = program.folder / "large.mp4"
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        program.upload()  # what is loaded by the first request is none of this one's
        before = rss_bytes(program.process.pid)
        with _watched(program.process.pid) as seen, _cutting(program.port, len(content), num_cuts) as line:
            send(f"http://127.0.0.1:{line.port}", path, (16 if is_full else 2) * _MIB)
        stored = hashlib.sha256((program.data / "videos" / digest).read_bytes()).hexdigest()
        left = len(list((program.data / "incoming").iterdir()))
    grown = max(seen) - before
    text = (
        f"{num_mib} MiB cut {line.num_cuts} times: {'byte-identical' if stored == digest else 'ALTERED'}, "
        f"{line.num_passed / _MIB:.0f} MiB sent, {left} files left; RSS {grown / _MIB:+.1f} MiB"
    )
    is_met = stored == digest and line.num_cuts == num_cuts and not left
    return Figure(text, is_met and grown <= _MAX_GROWN_BYTES)


@contextmanager
def _watched(pid: int) -> Generator[list[int]]:
    """The memory of a process, again and again."""
    seen, is_over = [rss_bytes(pid)], threading.Event()

    def look() -> None:
        while not is_over.wait(0.01):
            seen.append(rss_bytes(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


class _Line:
    """A port of this machine that leads to another one, and breaks after so many bytes, so many times."""

    def __init__(self, to: int, num_bytes: int, num_cuts: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.num_cuts = 0
        self.num_passed = 0
        self._cuts = [num_bytes * (number + 1) // (num_cuts + 1) for number in range(num_cuts)]

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server:
            both = selectors.DefaultSelector()
            both.register(client, selectors.EVENT_READ, server)
            both.register(server, selectors.EVENT_READ, client)
            with contextlib.suppress(OSError):
                while True:
                    for key, _ in both.select():
                        source: socket.socket = key.fileobj  # pyright: ignore[reportAssignmentType]
                        if not (data := source.recv(1 << 16)):
                            return
                        key.data.sendall(data)
                        self.num_passed += len(data) if source is client else 0
                        if self.num_cuts < len(self._cuts) and self.num_passed > self._cuts[self.num_cuts]:
                            self.num_cuts += 1
                            return


@contextmanager
def _cutting(to: int, num_bytes: int, num_cuts: int) -> Generator[_Line]:
    line = _Line(to, num_bytes, num_cuts)
    thread = threading.Thread(target=line.serve)
    thread.start()
    try:
        yield line
    finally:
        line.close()
        thread.join()


_BAR = "300 MiB by {}, cut five times: identical, web RSS + <= 30 MiB"

GOALS = (
    Goal("cuts, parts", _BAR.format("OpenAI's client"), partial(measure, by_openai)),
    Goal("cuts, tus", _BAR.format("tus-js-client"), partial(measure, by_tus), is_long=True),
    Goal("cuts, own client", _BAR.format("btchat.Client"), partial(measure, by_own_client)),
)
