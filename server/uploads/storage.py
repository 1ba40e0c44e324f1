"""Rows and files of the uploads, and the one thread that has them all, so that they agree."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from server.uploads.age import AgeClock
from server.uploads.catalog import Catalog
from server.uploads.disk import Clock, Disk
from server.uploads.durability import Durability
from server.uploads.folder import DataFolder
from server.uploads.receive import storage_problems
from server.uploads.usage import StorageUsage, StoreLimits

_T = TypeVar("_T")


class Storage:
    """What everything that keeps uploads shares."""

    def __init__(self, path: Path, limits: StoreLimits, disk: Disk, clock: Clock) -> None:
        """Raises OSError or sqlite3.Error if the folder cannot be used, InvalidValueError if another does."""
        self.limits = limits
        self.disk = disk
        self.clock = clock
        self.durability = Durability(disk)
        self.folder = DataFolder(path, disk)
        try:
            self.catalog = self.folder.with_reserve(self._open_catalog)
            self.usage = self.catalog.usage
            self.age = AgeClock(clock, self.catalog.clocks())
        except BaseException:
            self.folder.close()
            raise
        self._thread = ThreadPoolExecutor(1, "disk")

    def _open_catalog(self) -> Catalog:
        if not self.disk.exists(self.folder.database):  # the log and its index get the same permissions
            self.disk.close(self.disk.create(self.folder.database))
        db = self.disk.connect(self.folder.database)
        try:
            return Catalog(db, StorageUsage(self.limits))
        except BaseException:
            db.close()
            raise

    @property
    def is_degraded(self) -> bool:
        """Whether uploads are refused, for want of space or since the disk failed."""
        return self.durability.has_failed or self.folder.is_full

    def run(self, function: Callable[..., _T], *arguments: Any) -> asyncio.Future[_T]:
        """What a function does with the disk, in turn.

        Raises:
            Problem: the disk is full or failing.
        """
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, self._guarded, function, arguments)

    def _guarded(self, function: Callable[..., _T], arguments: Sequence[Any]) -> _T:
        with storage_problems(), self.durability.of_rows():
            return function(*arguments)

    def fill_reserve(self) -> None:
        """In its thread: keep space for deletions again, also what the catalogue's log took of it."""
        if not self.folder.has_reserve:
            self.reuse_log()
            self.folder.fill_reserve()

    def reuse_log(self) -> None:
        """In its thread: give back the space of the catalogue's log, if that works."""
        with contextlib.suppress(sqlite3.Error), self.durability.of_rows():
            self.catalog.reuse_log()

    async def close(self) -> None:
        """Let another server have the folder; nothing runs afterwards."""
        try:
            await self.run(self.catalog.close)
        finally:
            self._thread.shutdown()
            self.folder.close()
