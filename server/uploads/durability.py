"""Whether what is written will last. After one failure nothing can be promised any more.

A sync that fails may have dropped the data, and the next one may say nothing of it.
"""

import errno
import logging
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from server.problems import Problem
from server.uploads.disk import Disk, is_full

log = logging.getLogger(__name__)

# nothing was synced, as a file is gone, or no descriptor or memory is left
_NOT_THE_DISKS = (errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_UNSYNCED = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)


class Durability:
    """The calls after which data must last; the first that fails, but for want of space, is the last."""

    def __init__(self, disk: Disk) -> None:
        self.has_failed = False
        self._disk = disk

    def check(self) -> None:
        """Raises Problem once something was not kept: nothing more is stored until a restart."""
        if self.has_failed:
            text = (
                "the server's disk did not keep what was written to it, so it stores nothing more; what is "
                "stored can be asked about. Its operator should check the disk, then start the server again"
            )
            raise Problem(503, text, code="storage_failed", headers={"x-should-retry": "false"})

    def sync(self, fd: int) -> None:
        with self._of_files():
            self._disk.sync(fd)

    def sync_folder(self, path: Path) -> None:
        with self._of_files():
            self._disk.sync_folder(path)

    def rename(self, old: Path, new: Path) -> None:
        """Rename into another folder, whose names last from then on."""
        with self._of_files():
            self._disk.rename(old, new)
            self._disk.sync_folder(new.parent)

    @contextmanager
    def _of_files(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            self._notice(error, has_lost=not is_full(error) and error.errno not in _NOT_THE_DISKS)
            raise

    @contextmanager
    def of_rows(self) -> Generator[None]:
        """Around calls of the database, which syncs by itself; passes its errors on."""
        try:
            yield
        except sqlite3.Error as error:
            self._notice(error, has_lost=getattr(error, "sqlite_errorcode", None) in _UNSYNCED)
            raise

    def _notice(self, error: Exception, *, has_lost: bool) -> None:
        if has_lost and not self.has_failed:
            self.has_failed = True
            log.error("the disk failed (%s): no more uploads until the server is started again", error)
