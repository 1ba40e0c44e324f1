"""Uploads in pieces: what has come stays when a connection breaks or the server is started again."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from bt_model.errors import DecodeTimeoutError, UnknownNameError, VideoError, explain
from server.problems import Problem
from server.uploads.receive import BLOCK_BYTES, OpenFile, Received, storage_problems
from server.uploads.rows import Pieces, Terms
from server.uploads.storage import Storage

log = logging.getLogger(__name__)

UPLOAD = "vid_"
"""So begin ids of videos, and of uploads in pieces, that become such."""

_SYNC_BYTES = 16 * BLOCK_BYTES  # of a long piece, how much of it an interrupted server may forget


class ResumableUploads:
    """Those that are not whole yet; each has room for all of it from the beginning."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._busy = set[str]()
        self._left = set[Path]()  # files that could not be deleted

    async def begin(
        self, upload_id: str, tenant: str, num_bytes: int, filename: str, terms: Terms | None = None
    ) -> Pieces:
        """An upload of which nothing is there yet.

        Raises:
            Problem: there would be more than there may be, or the disk is full or failing.
        """
        self._storage.durability.check()
        terms, now = terms or Terms(), int(self._storage.clock.wall())
        of_client = ("", terms.purpose, terms.seconds, now)
        pieces = Pieces(upload_id, tenant, num_bytes, filename, 0, self.end(), *of_client)
        await self._storage.run(self._begin, pieces)
        return pieces

    def end_of(self, pieces: Pieces) -> int:
        """When it is deleted unless somebody goes on with it, in seconds since 1970."""
        return self._storage.age.to_wall(pieces.expires_at)

    async def find(self, tenant: str, upload_id: str, kind: str = UPLOAD) -> Pieces | None:
        """An upload of this tenant that goes on, and whose id begins so."""
        pieces = await self._storage.run(self._storage.catalog.find_pieces, upload_id)
        if (
            pieces is None
            or not upload_id.startswith(kind)
            or pieces.tenant != tenant
            or pieces.expires_at <= self._storage.age.now()
        ):
            return None
        return pieces

    async def get(self, tenant: str, upload_id: str) -> Pieces:
        """Raises UnknownNameError where this tenant has no such upload."""
        if (pieces := await self.find(tenant, upload_id)) is None:
            text = f"no upload {upload_id[:40]!r} that goes on; POST /v1/video/uploads/resumable begins one"
            raise UnknownNameError(text, code="upload_not_found", param="upload_id")
        return pieces

    @contextmanager
    def turn(self, upload_id: str) -> Generator[None]:
        """Raises Problem: another request is at this upload."""
        if upload_id in self._busy:
            text = "another request writes this upload; try again when that has ended"
            headers = {"retry-after": "1", "x-should-retry": "true"}  # which OpenAI's clients then do
            raise Problem(423, text, code="upload_busy", headers=headers)
        self._busy.add(upload_id)
        try:
            yield
        finally:
            self._busy.discard(upload_id)

    async def append(self, pieces: Pieces, chunks: AsyncIterable[bytes]) -> Pieces:
        """One more piece; what comes of it before it breaks off is kept, too.

        Raises:
            Problem: it is longer than what is missing, or the disk is full or failing.
        """
        storage = self._storage
        storage.durability.check()
        with storage_problems():
            file = OpenFile(storage.disk, storage.durability.sync)
            piece = _Piece(storage, file, pieces)
            try:
                await asyncio.to_thread(file.open, lambda: self._reopened(pieces))
                try:
                    async for chunk in chunks:
                        await piece.add(chunk)
                except OSError:  # more would not help
                    raise
                except BaseException:
                    await asyncio.shield(piece.keep(self.end()))
                    raise
                await piece.keep(self.end())
            finally:
                await asyncio.shield(asyncio.to_thread(file.close))
        return piece.pieces

    @asynccontextmanager
    async def whole(self, pieces: Pieces) -> AsyncGenerator[Received]:
        """The file, for `VideoStore.add`, of an upload that is complete. Otherwise as `offered`."""
        with storage_problems():
            digest = await asyncio.to_thread(self._digest, pieces)
        async with self.offered(pieces, digest) as received:
            yield received

    @asynccontextmanager
    async def offered(self, pieces: Pieces, digest: str) -> AsyncGenerator[Received]:
        """A whole file, for `VideoStore.add`; of one that is no video the upload is deleted.

        One that could not be decoded in time is kept: the machine may have been busy.
        """
        # with it, a start finds the file again if a commit is interrupted
        await self._storage.run(self._storage.catalog.update_pieces, replace(pieces, sha256=digest))
        try:
            yield Received(self.path(pieces), digest, pieces.num_bytes, pieces.id)
        except DecodeTimeoutError:
            raise
        except VideoError:
            await self.delete(pieces)
            raise

    async def delete(self, pieces: Pieces) -> None:
        """Forget an upload and what has come of it."""
        await self._storage.run(self._delete, [pieces])

    async def delete_expired(self) -> None:
        """Delete uploads that nobody goes on with, and files that could not be deleted before."""
        left, self._left = self._left, set()
        await self._storage.run(self.unlink, left)
        now = self._storage.age.now()
        old = [
            each
            for each in await self._storage.run(self._storage.catalog.all_pieces)
            if each.expires_at <= now
        ]
        await self._storage.run(self._delete, [each for each in old if each.id not in self._busy])

    def _begin(self, pieces: Pieces) -> None:
        self._storage.usage.check(pieces.tenant, pieces.num_bytes, pieces.num_bytes)
        disk, path = self._storage.disk, self.path(pieces)
        try:
            disk.close(disk.create(path))
            self._storage.durability.sync_folder(path.parent)
            self._storage.catalog.begin_pieces(pieces)
        except BaseException:
            disk.unlink(path)
            raise

    def _delete(self, each: list[Pieces]) -> None:
        for pieces in each:
            parts = self._storage.catalog.parts(pieces.id)
            self._storage.folder.with_reserve(
                lambda pieces=pieces: self._storage.catalog.delete_pieces(pieces)
            )
            self.unlink([self.path(pieces), *(self._storage.folder.incoming / part.id for part in parts)])

    def unlink(self, paths: Iterable[Path]) -> None:
        """In the storage's thread: delete files, now or later."""
        for path in paths:
            try:
                self._storage.disk.unlink(path)
            except OSError as error:
                log.warning("a deleted upload's file is still there: %s", explain(error))
                self._left.add(path)

    def _reopened(self, pieces: Pieces) -> int:
        """At the end of what has come: behind it may stand what a request wrote that was interrupted."""
        return self._storage.disk.reopen(self.path(pieces), pieces.received)

    def _digest(self, pieces: Pieces) -> str:
        self._storage.disk.close(self._reopened(pieces))
        return self._storage.disk.sha256(self.path(pieces))

    def path(self, pieces: Pieces) -> Path:
        """The file that its bytes come to."""
        return self._storage.folder.incoming / pieces.id

    def end(self) -> float:
        """Of an upload with which somebody goes on now, by the `AgeClock`."""
        return self._storage.age.now() + self._storage.limits.resumable_seconds


class _Piece:
    """One that is being received. Bytes count once they and their number are safe."""

    def __init__(self, storage: Storage, file: OpenFile, pieces: Pieces) -> None:
        self.pieces = pieces
        self._storage = storage
        self._file = file
        self._block = bytearray()
        self._written = pieces.received
        self._writing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writing.set_result(None)

    async def add(self, chunk: bytes) -> None:
        if self._written + len(self._block) + len(chunk) > self.pieces.num_bytes:
            text = f"more than the {self.pieces.num_bytes} bytes of Upload-Length came"
            raise Problem(413, text, code="body_too_large", param="body", headers={"connection": "close"})
        self._block += chunk
        if len(self._block) >= BLOCK_BYTES:
            await self._flush()
        if self._written - self.pieces.received >= _SYNC_BYTES:
            await self.keep(self.pieces.expires_at)

    async def keep(self, expires_at: float) -> None:
        """What was added is there from now on, also after a power cut."""
        await self._flush()
        await asyncio.to_thread(self._file.sync)
        self.pieces = replace(self.pieces, received=self._written, expires_at=expires_at)
        await self._storage.run(self._storage.catalog.update_pieces, self.pieces)

    async def _flush(self) -> None:
        """Each block is written once: a write goes on where its request ends, and is waited for here."""
        await asyncio.shield(self._writing)
        block, self._block = bytes(self._block), bytearray()
        self._written += len(block)
        self._writing = asyncio.create_task(asyncio.to_thread(self._file.write, block))
        await asyncio.shield(self._writing)
