"""Uploaded videos on disk: files named by SHA-256, stored once, and deleted after the last reader.

Order of a commit: sync the file, rename it, sync the folder, insert the row; orphans are deleted at start.
"""

import asyncio
import secrets
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from bt_model.errors import UnknownNameError
from bt_model.types import VideoFacts
from server.problems import Problem
from server.uploads.catalog import Catalog, Order, StoredVideo
from server.uploads.disk import Clock, Disk
from server.uploads.receive import Received, receiving, storage_problems
from server.uploads.token_folders import TOKENS, TokenFolders

_T = TypeVar("_T")

_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What uploads may take, and for how long."""

    ttl_seconds: float = 0.0
    """Life of an upload; 0 is endless."""

    max_bytes: int = 1 << 40
    """Of all files together."""


class Room:
    """What one body takes while it is received, of the bytes that stored files left when it began."""

    def __init__(self, store: "VideoStore", free_bytes: int) -> None:
        self._store = store
        self._free_bytes = free_bytes
        self._received = 0
        self.num_bytes = 0

    def reserve(self, num_bytes: int) -> None:
        """Raises Problem: what is stored and being received would be more than it may be."""
        more = max(num_bytes - self.num_bytes, 0)
        if self._store.incoming_bytes + more > self._free_bytes:
            raise self._store.no_room()
        self.num_bytes += more
        self._store.incoming_bytes += more

    def add(self, num_bytes: int) -> None:
        """So many more bytes have come. Raises as `reserve`."""
        self._received += num_bytes
        self.reserve(self._received)


class VideoStore:
    """All uploads of all tenants; no tenant can see another's."""

    def __init__(self, folder: Path, limits: StoreLimits, disk: Disk, clock: Clock) -> None:
        """Raises OSError or sqlite3.Error if the folder cannot be used."""
        self._limits = limits
        self._disk = disk
        self._clock = clock
        self.incoming_bytes = 0  # of bodies that are being received
        self._deleted: list[StoredVideo] = []  # to make room, since `delete_expired` was last called
        self._blobs = folder / "videos"
        self.incoming = folder / "incoming"
        for path in (folder, self._blobs, self.incoming):
            disk.make_folder(path)
        self._tokens = TokenFolders(folder / TOKENS)
        self._catalog = Catalog(disk.connect(folder / "btchat.sqlite3"))
        self._readers: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, "disk")  # rows, files and readers agree: one thread has them all

    @classmethod
    async def open(
        cls, folder: Path, limits: StoreLimits, disk: Disk | None = None, clock: Clock | None = None
    ) -> Self:
        """Open or create the folder, and delete what an interrupted run left behind.

        Args:
            folder: files and catalogue.
            limits: what uploads may take.
            disk: what files are changed with.
            clock: what time it is.
        """
        store = await asyncio.to_thread(cls, folder, limits, disk or Disk(), clock or Clock())
        await store._run(store._sweep_orphans)
        return store

    async def close(self) -> None:
        await self._run(self._catalog.close)
        self._thread.shutdown()

    @asynccontextmanager
    async def receiving(
        self, chunks: AsyncIterable[bytes], tenant: str, declared_bytes: int = 0
    ) -> AsyncGenerator[Received]:
        """A tenant's body on disk, for `add`, of which so many bytes are announced; deleted if not added.

        Raises:
            VideoError: an empty body, or the first bytes are not those of a video container.
            Problem: the files would take more than they may, or the disk is full or failing.
        """
        del tenant
        room = Room(self, await self._run(self._make_room))
        try:
            room.reserve(declared_bytes)
            async with receiving(chunks, self.incoming, room.add, self._disk) as received:
                yield received
        finally:
            self.incoming_bytes -= room.num_bytes

    async def add(self, received: Received, tenant: str, filename: str, facts: VideoFacts) -> StoredVideo:
        """Move a received file into the store and insert its row."""
        now, ttl = int(self._clock.wall()), self._limits.ttl_seconds
        expires = now + max(int(ttl), 1) if ttl else None
        video = StoredVideo(
            id=f"vid_{secrets.token_hex(_ID_BYTES)}",
            tenant=tenant,
            sha256=received.sha256,
            num_bytes=received.num_bytes,
            filename=filename,
            created_at=now,
            expires_at=expires,
            facts=facts,
        )
        with storage_problems():
            await self._run(self._commit, received.path, video)
        return video

    async def get(self, tenant: str, video_id: str, *, param: str = "video") -> StoredVideo:
        """Raises UnknownNameError where this tenant has no such video."""
        video = await self._run(self._find, tenant, video_id)
        if video is None:
            text = f"no video {video_id[:40]!r}; POST /v1/video/uploads makes one, GET lists them"
            raise UnknownNameError(text, code="video_not_found", param=param)
        return video

    async def page(self, tenant: str, after: str | None, limit: int, order: Order) -> list[StoredVideo]:
        """Up to `limit` videos after the one with id `after`; InvalidValueError if there is none."""
        return await self._run(self._page, tenant, after, limit, order)

    async def delete(self, video: StoredVideo) -> bool:
        """Delete an upload. True if it was the tenant's last with these bytes; then its tokens go, too."""
        return await self._run(self._delete, video)

    async def delete_expired(self) -> list[StoredVideo]:
        """Delete expired uploads; returns those that were their tenant's last with their bytes."""
        return await self._run(self._take_deleted)

    @asynccontextmanager
    async def reading(self, video: StoredVideo) -> AsyncGenerator[Path]:
        """The file, which exists during the `async with` even if the video is deleted.

        Raises:
            UnknownNameError: it was deleted just before.
        """
        entering = self._run(self._enter, video.sha256)
        try:
            if not await asyncio.shield(entering):  # one who leaves now must have entered, to leave in turn
                raise UnknownNameError(f"video {video.id} was deleted", code="video_deleted", param="video")
            yield self._blobs / video.sha256
        finally:
            await asyncio.shield(self._run(self._leave, video.sha256))

    def _run(self, function: Callable[..., _T], *arguments: Any) -> asyncio.Future[_T]:
        """What a function does with the disk, in turn."""
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _enter(self, sha256: str) -> bool:
        """One more reader of these bytes; whether they are there."""
        self._readers[sha256] += 1
        return self._disk.exists(self._blobs / sha256)

    def _commit(self, source: Path, video: StoredVideo) -> None:
        blob = self._blobs / video.sha256
        if self._disk.exists(blob):
            self._disk.unlink(source)
        else:
            if self._catalog.num_bytes() + video.num_bytes > self._limits.max_bytes:
                raise self.no_room()
            self._disk.rename(source, blob)
            self._disk.sync_folder(self._blobs)
        try:
            self._catalog.insert(video)
        except sqlite3.Error:
            self._free(video.sha256)
            raise
        self._tokens.add(video.tenant, video.sha256)

    def no_room(self) -> Problem:
        text = (
            f"all uploads together may take {self._limits.max_bytes} bytes (BTCHAT_MAX_STORED_BYTES), and "
            "this one is too much; DELETE /v1/video/uploads/{id} makes room"
        )
        return Problem(507, text, code="storage_full")

    def _make_room(self) -> int:
        """Bytes that the stored files leave, without those that have expired."""
        self._deleted += self._delete_expired()
        return self._limits.max_bytes - self._catalog.num_bytes()

    def _take_deleted(self) -> list[StoredVideo]:
        deleted, self._deleted = [*self._deleted, *self._delete_expired()], []
        return deleted

    def _find(self, tenant: str, video_id: str) -> StoredVideo | None:
        return self._catalog.find(tenant, video_id, int(self._clock.wall()))

    def _page(self, tenant: str, after: str | None, limit: int, order: Order) -> list[StoredVideo]:
        return self._catalog.page(tenant, after, limit, order, int(self._clock.wall()))

    def _delete(self, video: StoredVideo) -> bool:
        self._catalog.delete(video.id)
        self._free(video.sha256)
        is_last = all(other.tenant != video.tenant for other in self._catalog.with_bytes(video.sha256))
        if is_last:
            self._tokens.remove(video.tenant, video.sha256)
        return is_last

    def _delete_expired(self) -> list[StoredVideo]:
        expired = self._catalog.expired(int(self._clock.wall()))
        return [video for video in expired if self._delete(video)]

    def _leave(self, sha256: str) -> None:
        self._readers[sha256] -= 1
        if not self._readers[sha256]:
            del self._readers[sha256]
        self._free(sha256)

    def _free(self, sha256: str) -> None:
        if sha256 not in self._readers and not self._catalog.with_bytes(sha256):
            self._disk.unlink(self._blobs / sha256)

    def _sweep_orphans(self) -> None:
        for name in self._disk.names(self.incoming):
            self._disk.unlink(self.incoming / name)
        known = self._catalog.digests()
        present = set(self._disk.names(self._blobs))
        for name in present - known:
            self._disk.unlink(self._blobs / name)
        for sha256 in known - present:
            for video in self._catalog.with_bytes(sha256):
                self._catalog.delete(video.id)
        self._tokens.sweep(self._catalog.sources())
