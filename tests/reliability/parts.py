"""Uploads in parts by OpenAI's client: killed while they are put together, cut off, and large."""

import asyncio
import contextlib
import hashlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import openai

from server.uploads.rows import Terms
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.faulty_disk import FaultyDisk
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import rss_bytes, served
from tests.reliability.stored import FACTS, IN_MEMORY, video_of

_MIB = 1024 * 1024
_PIECES = (video_of(b"first" * 300_000)[:1_000_000], b"second" * 200_000)
_WHOLE = b"".join(_PIECES)
_MAX_GROWN_BYTES = 30 * _MIB


class _DeadlyDisk(FaultyDisk):
    """Kills its process in the place of a call."""

    def step(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self.fail_at + 1:
            os.kill(os.getpid(), signal.SIGKILL)


def kills(_is_full: bool) -> Figure:
    """SIGKILL before each call that changes the disk while parts become a video; then a start, and a look."""
    done = subprocess.run(
        [sys.executable, "-m", __name__], capture_output=True, text=True, timeout=120, check=False
    )
    *_, text = done.stdout.strip().splitlines() or [done.stderr[-500:]]
    return Figure(text, done.returncode == 0)


def _kill_at_every_call() -> int:
    """How many kills there were, one in every fork, after each of which the video can be completed."""
    for number in range(100):
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
            upload_id, part_ids = asyncio.run(_begun(Path(name)))
            if (pid := os.fork()) == 0:
                _complete_and_die(Path(name), number, upload_id, part_ids)
            _, status = os.waitpid(pid, 0)
            asyncio.run(_check(Path(name), upload_id, part_ids))
            if not os.WIFSIGNALED(status):
                return number
    raise AssertionError("it does not end")


async def _begun(folder: Path) -> tuple[str, list[str]]:
    store = await VideoStore.open(folder, StoreLimits())
    pieces = await store.parts.begin("public", len(_WHOLE), "a.mp4", Terms("vision"))
    ids = [(await store.parts.add(pieces, _one(each))).id for each in reversed(_PIECES)]
    await store.close()
    return pieces.id, ids[::-1]


def _complete_and_die(folder: Path, number: int, upload_id: str, part_ids: list[str]) -> NoReturn:
    async def complete() -> None:
        disk = _DeadlyDisk()
        store = await VideoStore.open(folder, StoreLimits(), disk)
        with disk.failing(number, OSError()):
            await _completed(store, upload_id, part_ids)
        await store.close()

    asyncio.run(complete())
    os._exit(0)


async def _completed(store: VideoStore, upload_id: str, part_ids: list[str]) -> None:
    if (pieces := await store.parts.find("public", upload_id)) is not None:
        async with store.parts.whole(pieces, part_ids, None) as received:
            await store.add(received, "public", pieces.filename, FACTS, terms=pieces.terms)


async def _check(folder: Path, upload_id: str, part_ids: list[str]) -> None:
    store = await VideoStore.open(folder, StoreLimits())
    await _completed(store, upload_id, part_ids)
    video = await store.completed("public", upload_id)
    assert (video.filename, video.purpose, video.num_bytes) == ("a.mp4", "vision", len(_WHOLE))
    assert (store.num_videos, store.num_bytes) == (1, len(_WHOLE))
    async with store.reading(video) as file:
        assert file.path.read_bytes() == _WHOLE
    assert list(store.incoming.iterdir()) == []
    await store.close()


async def _one(content: bytes) -> AsyncGenerator[bytes]:
    yield content


def large(is_full: bool) -> Figure:
    """A file through a line that is cut five times, by the client's own chunks and tries."""
    num_mib, num_cuts = (300, 5) if is_full else (12, 2)
    with served(is_fake=True) as program:
        padding = bytes(num_mib * _MIB)
        content = program.clip + (len(padding) + 8).to_bytes(4, "big") + b"free" + padding
        (program.folder / "large.mp4").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        program.upload()  # what is loaded by the first request is none of this one's
        before = rss_bytes(program.process.pid)
        with _watched(program.process.pid) as seen, _cutting(program.port, len(content), num_cuts) as line:
            url = f"http://127.0.0.1:{line.port}/v1"
            with openai.OpenAI(base_url=url, api_key="x", max_retries=3) as client:
                done = client.uploads.upload_file_chunked(
                    file=program.folder / "large.mp4", mime_type="video/mp4", purpose="user_data",
                    part_size=(16 if is_full else 2) * _MIB,
                )  # fmt: skip
        assert done.file is not None
        stored = hashlib.sha256((program.data / "videos" / digest).read_bytes()).hexdigest()
        left = len(list((program.data / "incoming").iterdir()))
    grown = max(seen) - before
    text = (
        f"{num_mib} MiB cut {line.num_cuts} times: {'byte-identical' if stored == digest else 'ALTERED'}, "
        f"{left} files left; RSS {grown / _MIB:+.1f} MiB"
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
        self._passed = 0
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
                        self._passed += len(data) if source is client else 0
                        if self.num_cuts < len(self._cuts) and self._passed > self._cuts[self.num_cuts]:
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


GOALS = (
    Goal(
        "parts, kills", "SIGKILL at every call while parts become a video: completed again, identical", kills
    ),
    Goal("parts, cuts", "300 MiB by OpenAI's client, cut five times: identical, web RSS + <= 30 MiB", large),
)

if __name__ == "__main__":
    sys.stdout.write(f"{_kill_at_every_call()} kills, each then completed, byte-identical, nothing left\n")
