"""Pooled tokens on disk, so that a restart costs no decode and no encode."""

import asyncio
import contextlib
import logging
import os
from collections import OrderedDict
from pathlib import Path

from bt_model.atomic_files import write_bytes
from bt_model.errors import explain
from server.worker.feature_cache import CacheEntry
from server.worker.thread import WorkThread
from server.worker.token_file import PooledTokens, from_bytes, to_bytes

log = logging.getLogger(__name__)

_SOURCE_BYTES = 32  # of a key: the digest of owner and content, by which its folder is called
_MAX_WAITING = 64  # writes; on a disk that hangs, tokens would pile up in memory


class TokenStore:
    """LRU files, bounded by bytes: `<source>/<the rest of the key>`, both in hex.

    Folders are made and removed by the web process (server/uploads/token_folders.py); tokens without one are
    not kept. State belongs to the event loop, files to two threads: nobody waits for a write.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.num_bytes = 0
        self.num_hits = 0
        self._folder = folder
        self._max_bytes = max_bytes
        self._files: OrderedDict[bytes, int] = OrderedDict()  # sizes; least recently used first
        self._reads = WorkThread("tokens in")
        self._writes = WorkThread("tokens out")
        self._waiting: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # of those who write

    def __len__(self) -> int:
        return len(self._files)

    async def open(self) -> None:
        """Find what earlier processes left, and delete what is too much of it."""
        for key, num_bytes in await self._reads.run(_found, self._folder):
            self._add(key, num_bytes)
        await self._make_room(0)

    async def get(self, key: bytes) -> CacheEntry[PooledTokens] | None:
        """What was put, now the most recently used, or None; a damaged file is dropped."""
        if key not in self._files:
            return None
        try:
            entry = await self._reads.run(_read, self._path(key), key)
        except FileNotFoundError:  # its video was deleted
            self._drop(key)
            return None
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a file, the video can be encoded again
            log.warning("dropped the tokens %s: %s", self._path(key).name, explain(error))
            self._drop(key)
            await self._writes.run(_delete, self._path(key))
            return None
        if key not in self._files:  # forgotten meanwhile
            return None
        self._files.move_to_end(key)
        self.num_hits += 1
        return entry

    def touch(self, key: bytes) -> None:
        """They were used without being read: others are given up before."""
        if key in self._files:
            self._files.move_to_end(key)

    def put(self, key: bytes, entry: CacheEntry[PooledTokens]) -> None:
        """Begin to write; a disk that is full or too slow costs nobody an answer."""
        if entry.num_bytes <= self._max_bytes and len(self._waiting) < _MAX_WAITING:
            task = asyncio.create_task(self._write(key, entry))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    def forget(self, prefix: bytes) -> None:
        """No longer know keys that begin so; the web process has removed their folder."""
        for key in [key for key in self._files if key.startswith(prefix)]:
            self._drop(key)

    async def close(self, seconds: float) -> None:
        """Wait for what is being written."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=seconds)

    async def _write(self, key: bytes, entry: CacheEntry[PooledTokens]) -> None:
        path = self._path(key)
        async with self._turn:
            try:
                data = await self._writes.run(_bytes_for, path, key, entry)
                if len(data) > self._max_bytes:
                    return
                await self._make_room(len(data))
                await self._writes.run(write_bytes, path, data)
            except FileNotFoundError:  # no upload's, or of one that was deleted
                return
            except Exception as error:  # noqa: BLE001 - of the disk, or of what makes the bytes
                log.warning("tokens are not kept on disk: %s", explain(error))
                return
            self._add(key, len(data))

    async def _make_room(self, num_bytes: int) -> None:
        while self._files and self.num_bytes + num_bytes > self._max_bytes:
            key = next(iter(self._files))
            self._drop(key)
            await self._writes.run(_delete, self._path(key))

    def _add(self, key: bytes, num_bytes: int) -> None:
        self._drop(key)
        self._files[key] = num_bytes
        self.num_bytes += num_bytes

    def _drop(self, key: bytes) -> None:
        self.num_bytes -= self._files.pop(key, 0)

    def _path(self, key: bytes) -> Path:
        return self._folder / key[:_SOURCE_BYTES].hex() / key[_SOURCE_BYTES:].hex()


def _found(folder: Path) -> list[tuple[bytes, int]]:
    """Keys and sizes of all files, least recently used first; those that were never finished are deleted."""
    files: list[tuple[float, bytes, int]] = []
    for path in folder.glob("*/*"):
        try:
            key, stat = bytes.fromhex(path.parent.name + path.name), path.stat()
        except ValueError:
            _delete(path)
        except OSError:  # deleted meanwhile
            continue
        else:
            files.append((stat.st_mtime, key, stat.st_size))
    return [(key, num_bytes) for _, key, num_bytes in sorted(files)]


def _read(path: Path, key: bytes) -> CacheEntry[PooledTokens]:
    entry = from_bytes(key, path.read_bytes())
    with contextlib.suppress(OSError):
        os.utime(path)  # when it was last used, for the next process
    return entry


def _bytes_for(path: Path, key: bytes, entry: CacheEntry[PooledTokens]) -> bytes:
    """Raises FileNotFoundError where tokens of this key are not kept."""
    path.parent.stat()
    return to_bytes(key, entry)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
