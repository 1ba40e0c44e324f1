"""Documents and batches of all tenants, on one thread of their own; no tenant can see another's."""

import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from bt_model.errors import InvalidValueError
from server.batches.ledger import Ledger
from server.batches.records import DOCUMENT, Batch, BatchRequest, Document, DocumentPurpose, Status
from server.problems import Problem
from server.uploads.catalog import Order
from server.uploads.receive import storage_problems

_T = TypeVar("_T")

MAX_LINES = 50_000
MAX_DOCUMENT_BYTES = 100 * 1024 * 1024
MAX_BYTES_OF_ONE = 1024 * 1024 * 1024
MAX_DOCUMENTS_OF_ONE = 1000
MAX_RUNNING_OF_ONE = 100
_MOST_NUMBERS = 2 * MAX_LINES  # blank lines do not count, but do not go on for ever


class BatchStore:
    """What `Ledger` keeps, for coroutines."""

    def __init__(self, folder: Path, ttl_seconds: float, max_line_bytes: int) -> None:
        """Raises sqlite3.Error or OSError if the folder cannot be used."""
        self._ledger = Ledger(folder / "batches.sqlite3")
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "batches")
        self._ttl = int(ttl_seconds)
        self._max_line_bytes = max_line_bytes
        self.news = asyncio.Event()  # something is to be done

    async def close(self) -> None:
        await self._run(self._ledger.close)
        self._thread.shutdown()

    async def receive(
        self, content: AsyncIterable[bytes], tenant: str, described: Callable[[], tuple[str, int | None]]
    ) -> Document:
        """Keep a document that comes; `described` gives its name and seconds to its end, once it is whole.

        Raises:
            Problem: it is too large, or no text of lines; or the disk is full.
            InvalidValueError: it has too many lines, or one that is too long.
        """
        await self._require_room(tenant)
        num_bytes = 0
        with tempfile.TemporaryFile(dir=self._folder) as file:
            async for chunk in content:
                num_bytes += len(chunk)
                if num_bytes > MAX_DOCUMENT_BYTES:
                    text = f"the file is too large; at most {MAX_DOCUMENT_BYTES} bytes are allowed"
                    raise Problem(413, text, code="body_too_large", param="file")
                await self._run(file.write, chunk)
            name, ttl = described()
            document = self._new_document(tenant, name, "batch", num_bytes, ttl)
            await self._run(self._ledger.add_document, document, _lines(file, self._max_line_bytes))
        return document

    async def document(self, tenant: str, document_id: str) -> Document:
        """Raises UnknownNameError where this tenant has no such document."""
        return await self._run(self._ledger.document, tenant, document_id)

    async def documents(
        self, tenant: str, purpose: str, after: str | None, limit: int, order: Order
    ) -> list[Document]:
        """Those of a purpose. Raises UnknownNameError where `after` is none."""
        return await self._run(self._ledger.page_of_documents, tenant, purpose, after, limit, order)

    async def delete_document(self, document: Document) -> None:
        """Delete a document. Raises Problem: a batch that runs needs it."""
        held = [each for each in await self._run(self._ledger.running) if document.id in each.documents]
        if held:
            text = f"{document.id} is used by {held[0].id}, which is {held[0].status}; cancel that first"
            raise Problem(409, text, code="file_in_use", param="file_id")
        await self._run(self._ledger.delete_document, document)

    async def content(self, document: Document) -> AsyncGenerator[bytes]:
        """Its lines, each with its end."""
        async for page in self._pages(document.id):
            yield "".join(f"{request.text}\n" for request in page).encode()

    async def create(self, tenant: str, input_id: str, endpoint: str, metadata: dict[str, str]) -> Batch:
        """Begin a batch.

        Raises:
            UnknownNameError: no such document.
            Problem: there is no room for what it writes.
            InvalidValueError: it is none of requests, or too many batches run.
        """
        document = await self.document(tenant, input_id)
        if document.purpose != "batch":
            text = f"input_file_id is a file with purpose {document.purpose}; allowed: batch"
            raise InvalidValueError(text, param="input_file_id")
        running = [each for each in await self._run(self._ledger.running) if each.tenant == tenant]
        if len(running) >= MAX_RUNNING_OF_ONE:
            text = f"{len(running)} batches of this key run; wait for one of them, or cancel it"
            raise InvalidValueError(text, param="input_file_id")
        await self._require_room(tenant)
        outputs = [self._new_document(tenant, name, "batch_output") for name in ("output", "errors")]
        for each in outputs:
            await self._run(self._ledger.add_document, each)
        now = int(time.time())
        batch = Batch(
            id=f"batch_{secrets.token_hex(16)}",
            tenant=tenant,
            endpoint=endpoint,
            input_id=input_id,
            output_id=outputs[0].id,
            error_id=outputs[1].id,
            status="validating",
            created_at=now,
            metadata=metadata,
        )
        await self._run(self._ledger.add_batch, batch)
        self.news.set()
        return batch

    async def batch(self, tenant: str, batch_id: str) -> Batch:
        """Raises UnknownNameError where this tenant has no such batch."""
        return await self._run(self._ledger.batch, tenant, batch_id)

    async def is_in_progress(self, batch: Batch) -> bool:
        """Whether its requests are still to be answered."""
        return await self._run(self._ledger.status, batch) == "in_progress"

    async def batches(self, tenant: str, after: str | None, limit: int) -> list[Batch]:
        """The newest first. Raises UnknownNameError where `after` is none."""
        return await self._run(self._ledger.batches, tenant, after, limit)

    async def running(self) -> list[Batch]:
        """Of all tenants, the oldest first."""
        await self._run(self._ledger.expire, int(time.time()))
        return await self._run(self._ledger.running)

    async def unanswered(self, batch: Batch, after: int, most: int) -> list[BatchRequest]:
        return await self._run(self._ledger.unanswered, batch, after, most)

    async def requests(self, batch: Batch) -> AsyncGenerator[BatchRequest]:
        """All of a batch."""
        async for page in self._pages(batch.input_id):
            for request in page:
                yield request

    async def answer(self, batch: Batch, request: BatchRequest, answer: dict[str, Any], *, ok: bool) -> None:
        """Keep what became of a request."""
        text = json.dumps(answer, ensure_ascii=False)
        document = batch.output_id if ok else batch.error_id
        await self._run(self._ledger.answer, document, request.number, text)

    async def move(self, batch: Batch, status: Status, **facts: Any) -> Batch:
        """The batch in another status; one that has ended stays, and one that is cancelled ends so."""
        moved = await self._run(self._moved, batch, status, facts)
        self.news.set()
        return moved

    def _moved(self, batch: Batch, status: Status, facts: dict[str, Any]) -> Batch:
        now = self._ledger.batch(batch.tenant, batch.id)
        if now.is_ended or (now.status == "cancelling" and status != "cancelled"):
            return now
        moved = replace(now, status=status, reached={**now.reached, status: int(time.time())}, **facts)
        self._ledger.update(moved)
        return moved

    async def _require_room(self, tenant: str) -> None:
        count, num_bytes = await self._run(self._ledger.taken, tenant)
        if count >= MAX_DOCUMENTS_OF_ONE or num_bytes >= MAX_BYTES_OF_ONE:
            text = (
                f"this key has {count} files of {num_bytes} bytes for batches; allowed: "
                f"{MAX_DOCUMENTS_OF_ONE} of {MAX_BYTES_OF_ONE}; delete some (DELETE /v1/files/ID)"
            )
            raise Problem(413, text, code="storage_quota", param="file")

    def _new_document(
        self, tenant: str, name: str, purpose: DocumentPurpose, num_bytes: int = 0, ttl: int | None = None
    ) -> Document:
        now = int(time.time())
        most = self._ttl or None
        chosen = most if ttl is None else min(ttl, most or ttl)
        ends = None if chosen is None else now + chosen
        filename = name if purpose == "batch" else f"{name}.jsonl"
        return Document(f"{DOCUMENT}{secrets.token_hex(16)}", tenant, filename, purpose, num_bytes, now, ends)

    async def _pages(self, document_id: str) -> AsyncGenerator[list[BatchRequest]]:
        after = 0
        while page := await self._run(self._ledger.page, document_id, after):
            yield page
            after = page[-1].number

    async def _run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        with storage_problems():
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def _lines(file: BinaryIO, max_bytes: int) -> Iterator[BatchRequest]:
    """Those that are not blank. Raises InvalidValueError: one is too long, or there are too many."""
    file.seek(0)
    count = 0
    for number in range(1, _MOST_NUMBERS):
        if not (line := file.readline(max_bytes + 1)):
            break
        if len(line) > max_bytes:
            text = (
                f"line {number} is too long; at most {max_bytes} bytes are allowed: name videos by their ids"
            )
            raise InvalidValueError(text, param="file")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise InvalidValueError(f"line {number} is no UTF-8", param="file") from error
        count += bool(text)
        if text:
            yield BatchRequest(number, text)
    else:
        text = f"the file has {_MOST_NUMBERS} lines or more, most of them blank; leave blank lines out"
        raise InvalidValueError(text, param="file")
    if not 1 <= count <= MAX_LINES:
        text = f"the file has {count} lines; allowed: 1 to {MAX_LINES} JSON objects, one a line"
        raise InvalidValueError(text, param="file")
