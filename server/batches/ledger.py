"""Documents and batches in SQLite: every answer is a row, so that none is lost or given twice."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bt_model.errors import UnknownNameError
from server.batches.records import ENDED, Batch, BatchRequest, Document, Status
from server.uploads.catalog import Order
from server.uploads.disk import transaction

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
CREATE TABLE IF NOT EXISTS documents (
    seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, tenant TEXT NOT NULL, filename TEXT NOT NULL,
    purpose TEXT NOT NULL, num_bytes INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER
);
CREATE TABLE IF NOT EXISTS lines (
    document TEXT NOT NULL REFERENCES documents (id) ON DELETE CASCADE, number INTEGER NOT NULL,
    text TEXT NOT NULL, PRIMARY KEY (document, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, tenant TEXT NOT NULL, status TEXT NOT NULL,
    facts TEXT NOT NULL
);
"""
_DOCUMENT = "id, tenant, filename, purpose, num_bytes, created_at, expires_at"
_PAGE_LINES = 256


class Ledger:
    """All of it; used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises sqlite3.Error or OSError if the file cannot be used."""
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def add_document(self, document: Document, lines: Iterable[BatchRequest] = ()) -> None:
        """A document and its lines, all or none; raises what the lines do."""
        with transaction(self._db):
            values = [getattr(document, name) for name in _DOCUMENT.split(", ")]
            self._db.execute(f"INSERT INTO documents ({_DOCUMENT}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            rows = ((document.id, line.number, line.text) for line in lines)
            self._db.executemany("INSERT INTO lines VALUES (?, ?, ?)", rows)

    def document(self, tenant: str, document_id: str) -> Document:
        """Raises UnknownNameError where the tenant has none of this id."""
        rows = self._documents("tenant = ? AND id = ?", tenant, document_id)
        if not rows:
            text = f"no file {document_id[:80]!r}; GET /v1/files lists them"
            raise UnknownNameError(text, code="file_not_found", param="file_id")
        return rows[0]

    def taken(self, tenant: str) -> tuple[int, int]:
        """How many documents a tenant has, and of how many bytes."""
        rows = "SELECT count(*), coalesce(sum(num_bytes), 0) FROM documents WHERE tenant = ?"
        return self._db.execute(rows, (tenant,)).fetchone()

    def page_of_documents(
        self, tenant: str, purpose: str, after: str | None, limit: int, order: Order
    ) -> list[Document]:
        """Some of a purpose, behind the one with id `after`; raises as `document`."""
        sign, start = (">", 0) if order == "asc" else ("<", 2**62)
        if after is not None:
            self.document(tenant, after)
            start = self._db.execute("SELECT seq FROM documents WHERE id = ?", (after,)).fetchone()[0]
        where = f"tenant = ? AND purpose = ? AND seq {sign} ? ORDER BY seq {order} LIMIT ?"
        return self._documents(where, tenant, purpose, start, limit)

    def delete_document(self, document: Document) -> None:
        """Delete a document, and an ended batch with the last one of its own."""
        of_batch = ", ".join(f"json_extract(facts, '$.{name}_id')" for name in ("input", "output", "error"))
        left = f"SELECT 1 FROM documents WHERE id IN ({of_batch})"
        where = f"status IN ({_ended()}) AND ? IN ({of_batch}) AND NOT EXISTS ({left})"
        with transaction(self._db):
            self._db.execute("DELETE FROM documents WHERE id = ?", (document.id,))
            self._db.execute(f"DELETE FROM batches WHERE {where}", (document.id,))

    def expire(self, now: int) -> None:
        """Delete documents whose time is over, but for those of batches that still run."""
        held = {name for batch in self.running() for name in batch.documents}
        for document in self._documents("expires_at <= ?", now):
            if document.id not in held:
                self.delete_document(document)

    def page(self, document_id: str, after: int, *, most: int = _PAGE_LINES) -> list[BatchRequest]:
        """Some lines of a document after that number."""
        rows = "SELECT number, text FROM lines WHERE document = ? AND number > ? ORDER BY number LIMIT ?"
        return [BatchRequest(*row) for row in self._db.execute(rows, (document_id, after, most))]

    def unanswered(self, batch: Batch, after: int, most: int) -> list[BatchRequest]:
        """Requests after that number which have neither an answer nor an error."""
        rows = (
            "SELECT number, text FROM lines AS asked WHERE document = ? AND number > ? AND NOT EXISTS "
            "(SELECT 1 FROM lines WHERE document IN (?, ?) AND number = asked.number) "
            "ORDER BY number LIMIT ?"
        )
        values = (batch.input_id, after, batch.output_id, batch.error_id, most)
        return [BatchRequest(*row) for row in self._db.execute(rows, values)]

    def answer(self, document_id: str, number: int, text: str) -> None:
        """Write the line of one request; one that has been written stays."""
        with transaction(self._db):
            line = "INSERT OR IGNORE INTO lines VALUES (?, ?, ?)"
            if self._db.execute(line, (document_id, number, text)).rowcount:
                size = "UPDATE documents SET num_bytes = num_bytes + ? WHERE id = ?"
                self._db.execute(size, (len(text.encode()) + 1, document_id))

    def add_batch(self, batch: Batch) -> None:
        values = (batch.id, batch.tenant, batch.status, _facts(batch))
        self._db.execute("INSERT INTO batches (id, tenant, status, facts) VALUES (?, ?, ?, ?)", values)

    def update(self, batch: Batch) -> None:
        values = (batch.status, _facts(batch), batch.id)
        self._db.execute("UPDATE batches SET status = ?, facts = ? WHERE id = ?", values)

    def batch(self, tenant: str, batch_id: str) -> Batch:
        """Raises UnknownNameError where the tenant has none of this id."""
        rows = self._batches("tenant = ? AND id = ?", tenant, batch_id)
        if not rows:
            text = f"no batch {batch_id[:80]!r}; GET /v1/batches lists them"
            raise UnknownNameError(text, code="batch_not_found", param="batch_id")
        return self._counted(rows[0])

    def batches(self, tenant: str, after: str | None, limit: int) -> list[Batch]:
        """A tenant's, the newest first. Raises UnknownNameError where `after` is none."""
        start = 2**62 if after is None else self._seq(self.batch(tenant, after))
        rows = self._batches("tenant = ? AND seq < ? ORDER BY seq DESC LIMIT ?", tenant, start, limit)
        return [self._counted(each) for each in rows]

    def status(self, batch: Batch) -> Status:
        """As it is now."""
        return self._db.execute("SELECT status FROM batches WHERE id = ?", (batch.id,)).fetchone()[0]

    def running(self) -> list[Batch]:
        """Those that are not ended, the oldest first; their answers are not counted."""
        return self._batches(f"status NOT IN ({_ended()}) ORDER BY seq")

    def _seq(self, batch: Batch) -> int:
        return self._db.execute("SELECT seq FROM batches WHERE id = ?", (batch.id,)).fetchone()[0]

    def _documents(self, where: str, *values: Any) -> list[Document]:
        rows = self._db.execute(f"SELECT {_DOCUMENT} FROM documents WHERE {where}", values)
        return [Document(*row) for row in rows.fetchall()]

    def _batches(self, where: str, *values: Any) -> list[Batch]:
        rows = self._db.execute(f"SELECT status, facts FROM batches WHERE {where}", values).fetchall()
        return [_batch(status, json.loads(facts)) for status, facts in rows]

    def _counted(self, batch: Batch) -> Batch:
        count = "SELECT count(*) FROM lines WHERE document = ?"
        completed, failed = (
            self._db.execute(count, (each,)).fetchone()[0] for each in (batch.output_id, batch.error_id)
        )
        return replace(batch, completed=completed, failed=failed)


def _batch(status: Status, facts: dict[str, Any]) -> Batch:
    values: dict[str, Any] = facts | {"status": status, "errors": tuple(facts["errors"])}
    return Batch(**values)


def _facts(batch: Batch) -> str:
    return json.dumps(asdict(batch))


def _ended() -> str:
    return ", ".join(f"'{status}'" for status in sorted(ENDED))
