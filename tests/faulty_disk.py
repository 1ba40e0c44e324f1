"""A real disk that fails at one call, and notes the order of those that make data last."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from server.uploads.disk import Disk

_T = TypeVar("_T")

CHANGES = ("INSERT", "UPDATE", "DELETE", "COMMIT")
SQLITE = {
    "full": ("database or disk is full", sqlite3.SQLITE_FULL),
    "write": ("disk I/O error", sqlite3.SQLITE_IOERR_WRITE),
    "fsync": ("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC),
}


class FaultyDisk(Disk):
    """`calls` are those since it was made or cleared; number `fail_at` raises `error` in its place."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail_at = -1
        self.error: Exception = OSError()
        self.database_error: Exception | None = None  # where the call is the database's

    @contextmanager
    def failing(self, at: int, error: Exception) -> Generator[None]:
        """Count from here on; nothing fails afterwards."""
        self.calls.clear()
        self.fail_at, self.error = at, error
        try:
            yield
        finally:
            self.fail_at, self.database_error = -1, None

    def step(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self.fail_at + 1:
            raise self.database_error if name in CHANGES and self.database_error else self.error

    def create(self, path: Path) -> int:
        self.step(f"create {path.parent.name}")
        return super().create(path)

    def reopen(self, path: Path, num_bytes: int) -> int:
        self.step(f"reopen {path.parent.name}")
        return super().reopen(path, num_bytes)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self.step("write")
        return super().write(fd, data)

    def sync(self, fd: int) -> None:
        self.step("sync")
        super().sync(fd)

    def rename(self, old: Path, new: Path) -> None:
        self.step(f"rename {new.parent.name}")
        super().rename(old, new)

    def sync_folder(self, path: Path) -> None:
        self.step(f"sync_folder {path.name}")
        Disk().sync_folder(path)

    def unlink(self, path: Path) -> None:
        self.step(f"unlink {path.parent.name}")
        super().unlink(path)

    def connect(self, path: Path) -> sqlite3.Connection:
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                if sql.startswith(CHANGES):
                    disk.step(sql.split(maxsplit=1)[0])
                return super().execute(sql, *values)

        return sqlite3.connect(path, check_same_thread=False, isolation_level=None, factory=Connection)


def sqlite_error(kind: str) -> sqlite3.OperationalError:
    text, code = SQLITE[kind]
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error
