"""Writes a body to a private temporary file and hashes it; the middleware enforces size limits."""

import asyncio
import errno
import hashlib
import logging
import os
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from bt_model.errors import explain
from bt_model.video.formats import HEAD_BYTES, container_of
from bt_model.video.refusals import unsupported_container
from bt_model.video.sniff import sniff
from server.problems import Problem
from server.uploads.disk import Disk, is_full

log = logging.getLogger(__name__)

BLOCK_BYTES = 1024 * 1024
_MOST_PARTS = 1000  # looked at here; the rest is left to a decode child


@dataclass(frozen=True, slots=True)
class Received:
    """A complete body on disk; `pieces_id` is that of the upload in pieces that it was."""

    path: Path
    sha256: str
    num_bytes: int
    pieces_id: str = ""


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A video on disk, with what is known of its packets for the next decode; empty where nothing is."""

    path: Path
    index: bytes


async def write_video(
    chunks: AsyncIterable[bytes],
    path: Path,
    count: Callable[[int], None],
    disk: Disk,
    sync: Callable[[int], None],
) -> Received:
    """As `write_file`.

    Raises:
        VideoError: an empty body, one that is not a video container, or is cut off before its index.
        OSError: the disk is full or failing.
    """
    return await write_file(_video_bytes(chunks), path, count, disk, sync, _check)


def _unchecked(_path: Path, _disk: Disk) -> None:
    """Whatever the bytes are."""


async def write_file(
    chunks: AsyncIterable[bytes],
    path: Path,
    count: Callable[[int], None],
    disk: Disk,
    sync: Callable[[int], None],
    check: Callable[[Path, Disk], None] = _unchecked,
) -> Received:
    """A body as a new file; in the end it is checked, and `sync` called with its descriptor.

    Raises OSError where the disk is full or failing, and what the others raise.
    """
    digest = hashlib.sha256()
    num_bytes = 0
    file = OpenFile(disk, sync)
    try:
        await asyncio.to_thread(file.open, lambda: disk.create(path))
        async for block in _blocks(chunks, count):
            num_bytes += len(block)
            await asyncio.to_thread(digest.update, block)
            await asyncio.to_thread(file.write, block)
        await asyncio.to_thread(check, path, disk)
        await asyncio.to_thread(file.sync)
    finally:
        await asyncio.shield(asyncio.to_thread(file.close))
    return Received(path, digest.hexdigest(), num_bytes)


@contextmanager
def storage_problems() -> Generator[None]:
    """Turn a full or failing disk into the client's error: nothing was changed."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        log.warning("the uploads' disk: %s", explain(error))
        if is_full(error):
            raise Problem(507, "the disk is full; nothing was changed", code="storage_full") from error
        text = "the disk failed; nothing was changed, and trying again may help"
        raise Problem(503, text, code="storage_failed") from error


async def _video_bytes(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """The same chunks; raises once their first bytes cannot be a video."""
    head = b""
    is_known = False
    async for chunk in chunks:
        yield chunk
        if not is_known:
            head += chunk[:HEAD_BYTES]
            is_known = _is_video(head)


def _is_video(head: bytes) -> bool:
    """True for enough bytes of a video, False for too few to tell; other bytes are refused at once."""
    if container_of(head) is not None:
        return True
    if len(head) >= HEAD_BYTES:
        raise unsupported_container()
    return False


def _check(path: Path, disk: Disk) -> None:
    """What needs no decoder to be refused is refused before it costs one anything, or the disk a sync."""
    with disk.open(path) as written:
        sniff(written, _MOST_PARTS)


class OpenFile:
    """A file written in threads. Whoever gives up on it closes it after the last call, not during it.

    Calls that come after that, from a thread that was late, raise OSError.
    """

    def __init__(self, disk: Disk, sync: Callable[[int], None]) -> None:
        self._disk = disk
        self._sync = sync
        self._fd: int | None = None
        self._is_closed = False
        self._turn = Lock()

    def open(self, opened: Callable[[], int]) -> None:
        """Have the descriptor that a call returns."""
        with self._turn:
            if not self._is_closed:
                self._fd = opened()

    def write(self, block: bytes) -> None:
        with self._turn:
            view = memoryview(block)
            while view:
                view = view[self._disk.write(self._live(), view) :]

    def sync(self) -> None:
        with self._turn:
            self._sync(self._live())

    def close(self) -> None:
        with self._turn:
            self._is_closed = True
            if self._fd is not None:
                self._disk.close(self._fd)
                self._fd = None

    def _live(self) -> int:
        if self._fd is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._fd


async def _blocks(chunks: AsyncIterable[bytes], count: Callable[[int], None]) -> AsyncGenerator[bytes]:
    """The same bytes in pieces worth a write."""
    block = bytearray()
    async for chunk in chunks:
        count(len(chunk))
        block += chunk
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
