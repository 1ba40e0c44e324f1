"""The seam between the store and the machine: every call that changes or looks at files, and its clocks.

`VideoStore.open(folder, limits, disk=..., clock=...)` takes others. A subclass of `Disk` may raise OSError at
a call of its choice, lose what was not synced, or keep everything in memory; `connect` may give a subclass of
`sqlite3.Connection`. All of this runs in `loop.run_in_executor`: a loop of one's own decides about the order.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_PRIVATE_FOLDER = 0o700
_PRIVATE_FILE = 0o600
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_DATABASE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
_HOLDER_BYTES = 100


def is_full(error: BaseException) -> bool:
    """Whether a disk's or a database's error is want of space."""
    return (
        getattr(error, "errno", None) in _FULL or getattr(error, "sqlite_errorcode", None) in _FULL_DATABASE
    )


@contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    """All that a connection in autocommit mode is told meanwhile, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _seconds_since_boot() -> float:
    """Seconds that nobody can set; on Linux they go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is: seconds since 1970, which may be set at any time, and seconds that only go on."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = _seconds_since_boot


class Disk:
    """The real one. Every method may raise OSError; all are synchronous."""

    def make_folder(self, path: Path) -> None:
        """A folder for this process's user alone, and those above it; one that is there becomes so."""
        path.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        self._protect(path, _PRIVATE_FOLDER)

    def protect(self, path: Path) -> None:
        """A file that is there becomes this process's user's alone; what a link leads to is not ours."""
        if stat.S_ISREG(path.lstat().st_mode):
            self._protect(path, _PRIVATE_FILE)

    def _protect(self, path: Path, mode: int) -> None:
        now = path.stat().st_mode
        if now & 0o777 != mode and not now & stat.S_ISVTX:  # such as /tmp, which is not for us alone
            with contextlib.suppress(PermissionError):  # of another user, as a volume of a container may be
                path.chmod(mode)

    def names(self, folder: Path) -> list[str]:
        return [path.name for path in folder.iterdir()]

    def exists(self, path: Path) -> bool:
        return path.exists()

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def free_bytes(self, folder: Path) -> int:
        return shutil.disk_usage(folder).free

    def open(self, path: Path) -> BinaryIO:
        return path.open("rb", buffering=0)

    def sha256(self, path: Path) -> str:
        """Of a file's content, in hexadecimal digits."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def lock(self, path: Path) -> int:
        """A descriptor with which this process holds the file; it ends with the process, however that ends.

        Raises:
            BlockingIOError: another one holds it; its text is what that one wrote.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _PRIVATE_FILE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, _HOLDER_BYTES, 0).decode(errors="replace").strip()
            os.close(fd)
            if isinstance(error, BlockingIOError):
                raise BlockingIOError(error.errno, holder) from error
            raise
        with contextlib.suppress(OSError):  # a full disk; it is only for people
            os.pwrite(
                fd,
                f"pid {os.getpid()} on {os.uname().nodename}"[:_HOLDER_BYTES].ljust(_HOLDER_BYTES).encode(),
                0,
            )
        return fd

    def allocate(self, path: Path, num_bytes: int) -> None:
        """A new file that takes so much space."""
        fd = self.create(path)
        try:
            os.posix_fallocate(fd, 0, num_bytes)
        finally:
            self.close(fd)

    def create(self, path: Path) -> int:
        """A descriptor of a new file."""
        return os.open(path, _CREATE, _PRIVATE_FILE)

    def reopen(self, path: Path, num_bytes: int) -> int:
        """A descriptor at the end of a file, of which no more than its first bytes are kept."""
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        try:
            os.ftruncate(fd, num_bytes)
        except OSError:
            os.close(fd)
            raise
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """How many of the bytes were written at the end."""
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def sync_folder(self, path: Path) -> None:
        """Its names survive a power cut from now on."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync(fd)
        finally:
            self.close(fd)

    def unlink(self, path: Path) -> None:
        """Delete a file; fine if it is not there."""
        path.unlink(missing_ok=True)

    def connect(self, path: Path) -> sqlite3.Connection:
        """The catalogue. May raise sqlite3.Error, as may everything that is done with it."""
        return sqlite3.connect(path, check_same_thread=False, isolation_level=None)
