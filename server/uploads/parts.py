"""Uploads whose parts come in any order, several at once: each a file until all are put together."""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bt_model.errors import InvalidValueError, UnknownNameError
from server.problems import Problem
from server.uploads.receive import BLOCK_BYTES, OpenFile, Received, storage_problems, write_file
from server.uploads.resumable import ResumableUploads
from server.uploads.rows import Pieces, Terms, UploadPart
from server.uploads.storage import Storage

PART_BYTES = 64 * BLOCK_BYTES
"""Of one part at most."""

MAX_PARTS = 10_000
"""Of all uploads of a tenant: each is a file."""

_UPLOAD, _PART = "upload_", "part_"


class PartUploads:
    """Uploads in parts: of `ResumableUploads`, but for their ids, which are not those of the later videos.

    A part that comes again, as after an answer that was lost, is the one that is there. While parts come, an
    upload takes no more than it has announced and one part. While it is put together it is there twice, and
    counts so.
    """

    def __init__(self, storage: Storage, resumable: ResumableUploads) -> None:
        self._storage = storage
        self._resumable = resumable
        self._coming = Counter[str]()  # bytes of parts that are not whole, by upload

    async def begin(self, tenant: str, num_bytes: int, filename: str, terms: Terms) -> Pieces:
        """Raises as `ResumableUploads.begin`."""
        upload_id = _UPLOAD + secrets.token_hex(16)
        return await self._resumable.begin(upload_id, tenant, num_bytes, filename, terms)

    async def find(self, tenant: str, upload_id: str) -> Pieces | None:
        """An upload of this tenant that goes on."""
        return await self._resumable.find(tenant, upload_id, _UPLOAD)

    async def get(self, tenant: str, upload_id: str) -> Pieces:
        """Raises UnknownNameError where this tenant has no such upload."""
        if (pieces := await self.find(tenant, upload_id)) is None:
            raise unknown_upload(upload_id)
        return pieces

    async def add(self, pieces: Pieces, chunks: AsyncIterable[bytes]) -> UploadPart:
        """One more part, or the one that has the same bytes.

        Raises:
            InvalidValueError: it is empty.
            UnknownNameError: the upload has ended meanwhile.
            Problem: it is too long, too many bytes or parts have come, or the disk is full or failing.
        """
        self._storage.durability.check()
        taken = sum(
            part.num_bytes for part in await self._storage.run(self._storage.catalog.parts, pieces.id)
        )
        part_id = _PART + secrets.token_hex(16)
        path, received = self._storage.folder.incoming / part_id, 0

        def count(num_bytes: int) -> None:
            nonlocal received
            received += num_bytes
            self._coming[pieces.id] += num_bytes
            if received > PART_BYTES or taken + self._coming[pieces.id] > pieces.num_bytes + PART_BYTES:
                raise _too_long(pieces)

        is_kept = False
        try:
            with storage_problems():
                sync = self._storage.durability.sync
                whole = await write_file(chunks, path, count, self._storage.disk, sync)
            if not whole.num_bytes:
                raise InvalidValueError("the part is empty; allowed: 1 byte or more", param="data")
            part = UploadPart(part_id, pieces.id, whole.num_bytes, whole.sha256)
            adding = self._storage.run(self._add, pieces, part)
            part = await asyncio.shield(
                adding
            )  # who leaves now must know whether the file is the catalogue's
            is_kept = part.id == part_id
            return part
        finally:
            self._coming[pieces.id] -= received
            if not self._coming[pieces.id]:
                del self._coming[pieces.id]
            if not is_kept:
                await asyncio.shield(self._storage.run(self._discard, part_id))

    @asynccontextmanager
    async def whole(
        self, pieces: Pieces, part_ids: Sequence[str], md5: str | None
    ) -> AsyncGenerator[Received]:
        """The parts in this order as one file, for `VideoStore.add`; then they are deleted.

        Where anything fails the parts stay, unless they are no video: see `ResumableUploads.offered`.

        Raises:
            InvalidValueError: an unknown part, another length than announced, or another MD5.
            Problem: the disk is full or failing.
        """
        self._storage.durability.check()
        known = {part.id: part for part in await self._storage.run(self._storage.catalog.parts, pieces.id)}
        parts = [known[each] for each in part_ids if each in known]
        _check(pieces, part_ids, parts)
        usage = self._storage.usage
        await self._storage.run(usage.take, pieces.num_bytes)
        try:
            with storage_problems():
                sha256, found = await self._assembled(pieces, parts)
            if md5 is not None and md5.lower() != found:
                text = f"md5 is {md5[:40]!r}, and the parts have {found}; send again what is wrong"
                raise InvalidValueError(text, param="md5")
            async with self._resumable.offered(pieces, sha256) as received:
                yield received
            paths = [self._storage.folder.incoming / each for each in known]
            await self._storage.run(self._resumable.unlink, paths)
        finally:
            await asyncio.shield(self._storage.run(usage.give_back, pieces.num_bytes))

    def _add(self, pieces: Pieces, part: UploadPart) -> UploadPart:
        """In the storage's thread."""
        catalog = self._storage.catalog
        if catalog.find_pieces(pieces.id) is None:
            raise unknown_upload(pieces.id)
        parts = catalog.parts(pieces.id)
        for same in (each for each in parts if each.sha256 == part.sha256):
            return same
        if sum(each.num_bytes for each in parts) + part.num_bytes > pieces.num_bytes:
            raise _too_long(pieces)
        if catalog.num_parts(pieces.tenant) >= MAX_PARTS:
            text = f"the uploads of one key may have {MAX_PARTS} parts at a time; complete or cancel one"
            raise Problem(413, text, code="storage_quota")
        self._storage.durability.sync_folder(self._storage.folder.incoming)
        catalog.insert_part(part, self._resumable.end())
        return part

    def _discard(self, part_id: str) -> None:
        """In the storage's thread, after what was begun there: a part that is not in the catalogue."""
        if not self._storage.catalog.has_part(part_id):
            self._resumable.unlink([self._storage.folder.incoming / part_id])

    async def _assembled(self, pieces: Pieces, parts: Sequence[UploadPart]) -> tuple[str, str]:
        """Write the parts one after the other; SHA-256 and MD5 of them all."""
        disk, path = self._storage.disk, self._resumable.path(pieces)
        file = OpenFile(disk, self._storage.durability.sync)
        digests = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        try:
            await asyncio.to_thread(file.open, lambda: disk.reopen(path, 0))
            for part in parts:
                source = self._storage.folder.incoming / part.id
                for begin in range(0, part.num_bytes, BLOCK_BYTES):
                    block = await asyncio.to_thread(self._block, source, begin)
                    for digest in digests:
                        await asyncio.to_thread(digest.update, block)
                    await asyncio.to_thread(file.write, block)
            await asyncio.to_thread(file.sync)
        finally:
            await asyncio.shield(asyncio.to_thread(file.close))
        return digests[0].hexdigest(), digests[1].hexdigest()

    def _block(self, source: Path, begin: int) -> bytes:
        with self._storage.disk.open(source) as part:
            part.seek(begin)
            return part.read(BLOCK_BYTES)


def _check(pieces: Pieces, part_ids: Sequence[str], parts: Sequence[UploadPart]) -> None:
    """Raises InvalidValueError: not all are parts of the upload, or together they are not as long as it."""
    if len(parts) < len(part_ids):
        known = {part.id for part in parts}
        unknown = next(each for each in part_ids if each not in known)
        text = f"part_ids has {unknown[:40]!r}; allowed: ids that POST /v1/uploads/{pieces.id}/parts gave"
        raise InvalidValueError(text, param="part_ids")
    if (num_bytes := sum(part.num_bytes for part in parts)) != pieces.num_bytes:
        text = f"the parts have {num_bytes} bytes, and {pieces.num_bytes} were announced"
        raise InvalidValueError(f"{text}: send what is missing, or begin again", param="part_ids")


def _too_long(pieces: Pieces) -> Problem:
    text = (
        f"a part may have {PART_BYTES} bytes, and all parts of this upload the {pieces.num_bytes} that were "
        "announced; cancel it to begin again with other parts"
    )
    return Problem(413, text, code="body_too_large", param="data", headers={"connection": "close"})


def is_in_parts(upload_id: str) -> bool:
    """Whether this is the id of such an upload."""
    return upload_id.startswith(_UPLOAD)


def unknown_upload(upload_id: str) -> UnknownNameError:
    """The refusal of an id that is none."""
    text = f"no upload {upload_id[:40]!r} that goes on; POST /v1/uploads begins one"
    return UnknownNameError(text, code="upload_not_found", param="upload_id")
