"""The seam between the store and the machine: every call that changes or looks at files, and its clocks.

`VideoStore.open(folder, limits, disk=..., clock=...)` takes others. A subclass of `Disk` may raise OSError at
a call of its choice, lose what was not synced, or keep everything in memory; `connect` may give a subclass of
`sqlite3.Connection`. All of this runs in `loop.run_in_executor`: a loop of one's own decides about the order.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


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
        """A folder for this process's user alone, and those above it; one that is there stays."""
        path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)

    def names(self, folder: Path) -> list[str]:
        return [path.name for path in folder.iterdir()]

    def exists(self, path: Path) -> bool:
        return path.exists()

    def create(self, path: Path) -> int:
        """A descriptor of a new file."""
        return os.open(path, _CREATE, PRIVATE_FILE)

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
