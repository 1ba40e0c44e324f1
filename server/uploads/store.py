"""Uploaded videos: what comes in, what is asked for, and what goes."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from bt_model.errors import UnknownNameError
from bt_model.types import VideoFacts
from server.problems import Problem
from server.uploads.blobs import Blobs
from server.uploads.catalog import Order
from server.uploads.disk import Clock, Disk
from server.uploads.parts import PartUploads, is_in_parts, unknown_upload
from server.uploads.receive import Received, VideoFile, storage_problems, write_video
from server.uploads.resumable import UPLOAD, ResumableUploads
from server.uploads.rows import Removed, StoredVideo, Terms
from server.uploads.storage import Storage
from server.uploads.usage import Incoming, StoreLimits, kept_index

_BATCH = 64  # rows that are deleted before another has its turn


def _not_synced(_fd: int) -> None:
    """What ends with its request need not outlive the machine."""


class VideoStore:
    """All uploads of all tenants; no tenant can see another's."""

    def __init__(self, storage: Storage) -> None:
        self.limits = storage.limits
        self.incoming = storage.folder.incoming
        self.resumable = ResumableUploads(storage)
        self.parts = PartUploads(storage, self.resumable)
        self._storage = storage
        self._run = storage.run
        self._blobs = Blobs(storage)
        self._incoming = Incoming(storage.usage)
        self._deleted: list[StoredVideo] = []  # since `delete_expired` last returned

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

        Raises:
            InvalidValueError: another server uses the folder.
            OSError, sqlite3.Error: the folder cannot be used.
        """
        storage = await asyncio.to_thread(Storage, folder, limits, disk or Disk(), clock or Clock())
        try:
            store = cls(storage)
            await asyncio.to_thread(store._blobs.sweep)
            with contextlib.suppress(Problem):  # a full disk keeps no server from starting
                await storage.run(store._tidy)
        except BaseException:
            await storage.close()
            raise
        return store

    async def close(self) -> None:
        """Let another server have the folder."""
        with contextlib.suppress(Problem):  # a disk that fails keeps no server from ending
            await self._run(self._tidy)
        await self._storage.close()

    @property
    def is_failed(self) -> bool:
        """Whether the disk failed, so that nothing is stored any more."""
        return self._storage.durability.has_failed

    @property
    def is_degraded(self) -> bool:
        """Whether uploads are refused, for want of space or since the disk failed."""
        return self._storage.is_degraded

    @property
    def num_bytes(self) -> int:
        """Of all files that are stored, and of uploads in pieces."""
        return self._storage.usage.num_bytes

    @property
    def incoming_bytes(self) -> int:
        """Of bodies that are being received."""
        return self._incoming.num_bytes

    @property
    def num_videos(self) -> int:
        """Uploads that are stored; some may share a file."""
        return self._storage.usage.videos_of.total()

    @asynccontextmanager
    async def receiving(
        self, chunks: AsyncIterable[bytes], tenant: str, declared_bytes: int = 0
    ) -> AsyncGenerator[Received]:
        """A tenant's body on disk, for `add`, of which so many bytes are announced; deleted if not added.

        Raises:
            VideoError: an empty body, or the first bytes are not those of a video container.
            Problem: there would be more than there may be, or the disk is full or failing.
        """
        self._storage.durability.check()
        await self._delete_expired()
        sync = self._storage.durability.sync
        async with self._written(chunks, tenant, declared_bytes, sync) as received:
            yield received

    @asynccontextmanager
    async def lending(
        self, chunks: AsyncIterable[bytes], declared_bytes: int = 0
    ) -> AsyncGenerator[Received]:
        """A video on disk only during the `async with`; no quota concerns it. Raises as `receiving`."""
        async with self._written(chunks, None, declared_bytes, _not_synced) as received:
            yield received

    @asynccontextmanager
    async def _written(
        self,
        chunks: AsyncIterable[bytes],
        tenant: str | None,
        declared_bytes: int,
        sync: Callable[[int], None],
    ) -> AsyncGenerator[Received]:
        path = self._storage.folder.incoming / secrets.token_hex(16)
        with self._incoming.room(tenant, declared_bytes) as room:
            try:
                with storage_problems():
                    received = await write_video(chunks, path, room.add, self._storage.disk, sync)
                yield received
            finally:  # in turn: one who leaves must not delete what is just being committed
                await asyncio.shield(self._run(self._blobs.discard, path))

    async def add(
        self,
        received: Received,
        tenant: str,
        filename: str,
        facts: VideoFacts,
        index: bytes = b"",
        terms: Terms | None = None,
    ) -> StoredVideo:
        """Move a received file into the store and insert its row, under a new id if none was given before.

        Bytes that the tenant has already keep id and first name, and expire no earlier than these would.
        `facts` and `index` are those of a probe; where this tenant's upload of the same bytes was found by
        decoding to have fewer frames, its own hold for this one, too.

        Raises:
            Problem: there would be more than there may be, or the disk is full or failing.
        """
        terms = terms or Terms()
        lives = [seconds for seconds in (self.limits.ttl_seconds, terms.seconds) if seconds]
        known = await self._run(self._storage.catalog.known, tenant, received.sha256)
        if known is not None and known[0].num_frames < facts.num_frames:
            facts, index = known
        now = int(self._storage.clock.wall())
        video = StoredVideo(
            id=received.pieces_id if received.pieces_id.startswith(UPLOAD) else new_id(),
            tenant=tenant,
            sha256=received.sha256,
            num_bytes=received.num_bytes,
            filename=filename,
            created_at=now,
            expires_at=self._storage.age.of_wall(now + max(int(min(lives)), 1)) if lives else None,
            facts=facts,
            purpose=terms.purpose,
        )
        index = kept_index(index, received.num_bytes)
        return self._shown(await self._run(self._blobs.commit, received, video, index))

    async def learn(
        self, video: StoredVideo, facts: VideoFacts, index: bytes, *, is_recounted: bool = False
    ) -> bool:
        """Keep what a decode found out, if anything; whether that changes the facts.

        Frames that were recounted are kept without an index, too: one of before would count as before.
        """
        index = kept_index(index, video.num_bytes)
        if not (index or is_recounted):
            return False
        with contextlib.suppress(Problem):  # the next decode finds it out again
            self._storage.durability.check()
            await self._run(self._storage.catalog.learn, video.tenant, video.sha256, facts, index)
            return facts != video.facts
        return False

    async def get(self, tenant: str, video_id: str, *, param: str = "video") -> StoredVideo:
        """Raises UnknownNameError where this tenant has no such video, Problem where the disk fails."""
        video = await self._run(self._find, tenant, video_id)
        if video is None:
            text = f"no video {video_id[:40]!r}; POST /v1/video/uploads makes one, GET lists them"
            raise UnknownNameError(text, code="video_not_found", param=param)
        return self._shown(video)

    async def completed(self, tenant: str, upload_id: str) -> StoredVideo:
        """What this tenant's upload in parts has become. Raises UnknownNameError: there is no such upload."""
        video = await self._run(self._find, tenant, upload_id) if is_in_parts(upload_id) else None
        if video is None:
            raise unknown_upload(upload_id)
        return self._shown(video)

    async def find_bytes(self, tenant: str, sha256: str) -> StoredVideo | None:
        """This tenant's upload of these bytes, if there is one."""
        now = self._storage.age.now()
        video = await self._run(self._storage.catalog.find_bytes, tenant, sha256, now)
        return video and self._shown(video)

    async def page(
        self, tenant: str, after: str | None, limit: int, order: Order, purpose: str | None = None
    ) -> list[StoredVideo]:
        """Up to `limit` videos after the one with id `after`; UnknownNameError if there is none."""
        now, page = self._storage.age.now(), self._storage.catalog.page
        return [
            self._shown(each) for each in await self._run(page, tenant, after, limit, order, now, purpose)
        ]

    async def delete(self, video: StoredVideo) -> Removed:
        """Delete an upload, and its tokens if it was the tenant's last with these bytes."""
        return (await self._run(self._blobs.delete, [video])).get(video.id, Removed())

    async def forget_pixels(self, video: StoredVideo) -> Removed:
        """Keep of an upload its tokens alone. Raises Problem where the disk is full or failing."""
        return await self._run(self._blobs.forget_pixels, video)

    async def delete_expired(self) -> list[StoredVideo]:
        """Delete expired uploads; returns those that were their tenant's last with their bytes."""
        await self._delete_expired()
        await self.resumable.delete_expired()
        self._deleted += await self._run(self._tidy)
        deleted, self._deleted = self._deleted, []
        return deleted

    @asynccontextmanager
    async def reading(self, video: StoredVideo) -> AsyncGenerator[VideoFile]:
        """The file, which exists during the `async with` even if the video is deleted.

        Raises:
            UnknownNameError: it was deleted just before.
            PixelsForgottenError: only its tokens are left.
        """
        entering = self._run(self._blobs.enter, video)
        try:
            file = await asyncio.shield(entering)  # one who leaves now must have entered, to leave in turn
            if isinstance(file, UnknownNameError):
                raise file
            yield file
        finally:
            await asyncio.shield(self._run(self._blobs.leave, video.sha256))

    async def _delete_expired(self) -> None:
        num_expired = _BATCH
        while num_expired == _BATCH:
            num_expired, last = await self._run(self._delete_batch)
            self._deleted += last

    def _delete_batch(self) -> tuple[int, list[StoredVideo]]:
        """Delete some of what has expired; how many, and those that were their tenant's last."""
        expired = self._storage.catalog.expired(self._storage.age.now(), _BATCH)
        return len(expired), self._blobs.delete_all(expired) if expired else []

    def _tidy(self) -> list[StoredVideo]:
        """What the next run must know, what could not be deleted before, and space for the next deletion."""
        last = self._blobs.retry()
        self._storage.fill_reserve()
        if not self._storage.folder.is_full:
            self._storage.catalog.note_clocks(self._storage.age.note())
        return last

    def _find(self, tenant: str, video_id: str) -> StoredVideo | None:
        return self._storage.catalog.find(tenant, video_id, self._storage.age.now())

    def _shown(self, video: StoredVideo) -> StoredVideo:
        """With an end by the clock on the wall."""
        if video.expires_at is None:
            return video
        return replace(video, expires_at=self._storage.age.to_wall(video.expires_at))


def new_id() -> str:
    """Of a video: 128 random bits."""
    return f"{UPLOAD}{secrets.token_hex(16)}"
