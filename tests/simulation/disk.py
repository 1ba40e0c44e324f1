"""A simulated disk, which can be full, can fail, and may lose what was not synced when the power is cut.

A file's bytes are safe after `sync`, its name after `sync_folder` of its folder. At a power cut each change
of a name that is not safe has happened or not. Rows are safe once SQLite says so.
"""

import errno
import hashlib
import io
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from server.uploads.disk import Disk
from server.uploads.folder import RESERVE_BYTES
from tests.simulation.draws import Draws
from tests.simulation.loop import PowerCut
from tests.simulation.trace import Trace

_ROW_BYTES = 4096
_CHANGES = ("INSERT", "DELETE", "UPDATE", "COMMIT")
_FIRST_NUMBER = 2_000_000  # far from real descriptors


@dataclass(slots=True, eq=False)
class _File:
    content: bytearray = field(default_factory=bytearray)
    safe: bytes = b""  # as of the last sync


@dataclass(slots=True, eq=False)
class _Folder:
    files: dict[str, _File] = field(default_factory=dict[str, _File])
    safe: dict[str, _File] = field(default_factory=dict[str, _File])  # as of the last sync


@dataclass(slots=True, eq=False)
class DiskFaults:
    """What goes wrong from now on. `cut_after` counts calls down to a power cut in the middle of one."""

    is_full: bool = False
    failures: float = 0.0  # share of these calls
    failing: tuple[str, ...] = ()  # "write", "sync", "rename", "sync of a folder"
    cut_after: int = -1


class SimulatedDisk(Disk):
    """Outlives the servers that use it."""

    def __init__(self, draws: Draws, trace: Trace) -> None:
        self._draws = draws
        self._trace = trace
        self._folders: dict[Path, _Folder] = {}
        self._open: dict[int, _File | None] = {}
        self._numbers = _FIRST_NUMBER
        self._database: SimulatedDatabase | None = None
        self.faults = DiskFaults()
        self._free = 0  # while it is full
        self.had_reserve = True  # when it became full: without it nobody can promise that rows are deleted

    # --- what nobody but the simulation does

    @property
    def num_open(self) -> int:
        return len(self._open)

    def content(self, folder: Path) -> dict[str, bytes]:
        """Names and bytes of what lies in a folder now."""
        return {name: bytes(file.content) for name, file in self._folder(folder).files.items()}

    def read(self, path: Path) -> bytes:
        file = self._folder(path.parent).files.get(path.name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return bytes(file.content)

    def rows(self) -> set[tuple[str, str]]:
        """Owners and contents in the catalogue."""
        assert self._database is not None
        return set(self._database.execute("SELECT tenant, sha256 FROM videos"))

    def files_of_rows(self) -> set[str]:
        """Contents that an upload in the catalogue has, and has not forgotten."""
        assert self._database is not None
        return {row[0] for row in self._database.execute("SELECT sha256 FROM videos WHERE pixels")}

    def close_all(self) -> None:
        """The process that had files open has ended."""
        self.faults = DiskFaults()
        self._open.clear()

    def cut(self) -> None:
        """The power goes, and comes back."""
        for folder in self._folders.values():
            for name in sorted(folder.files.keys() | folder.safe.keys()):
                now, safe = folder.files.get(name), folder.safe.get(name)
                if now is not safe and self._draws.chance(0.5):
                    _put(folder.safe, name, now)
            folder.files = dict(folder.safe)
        for folder in self._folders.values():
            for file in folder.files.values():
                if bytes(file.content) != file.safe:
                    file.content = bytearray(file.safe)

    def step(self, what: str) -> None:
        """Before every change: there is power, and the disk works."""
        if self.faults.cut_after >= 0:
            self.faults.cut_after -= 1
            if self.faults.cut_after < 0:
                self._trace.add("disk", f"power cut at {what}")
                raise PowerCut
        if what in self.faults.failing and self._draws.chance(self.faults.failures):
            self._trace.add("disk", f"fails at {what}")
            raise OSError(errno.EIO, "simulated")

    def _folder(self, path: Path) -> _Folder:
        return self._folders.setdefault(path, _Folder())

    def fill(self, *, is_full: bool) -> None:
        """From now on there is no room, or some for files and not for rows; or there is enough again."""
        self.had_reserve = any("reserve" in folder.files for folder in self._folders.values())
        self.faults.is_full, self._free = is_full, self._draws.pick((0, _ROW_BYTES - 1, _ROW_BYTES - 1))

    def _need_room(self, num_bytes: int) -> None:
        if self.faults.is_full:
            if num_bytes > self._free:
                raise OSError(errno.ENOSPC, "simulated")
            self._free -= num_bytes

    # --- as the store uses it

    def make_folder(self, path: Path) -> None:
        self._folder(path)

    def protect(self, path: Path) -> None: ...

    def lock(self, path: Path) -> int:
        return self._opened(None)

    def free_bytes(self, folder: Path) -> int:
        return self._free if self.faults.is_full else 1 << 40

    def size(self, path: Path) -> int:
        return len(self.read(path))

    def sha256(self, path: Path) -> str:
        return hashlib.sha256(self.read(path)).hexdigest()

    def open(self, path: Path) -> BinaryIO:
        return io.BytesIO(self.read(path))

    def allocate(self, path: Path, num_bytes: int) -> None:
        if self.exists(path):
            raise FileExistsError(errno.EEXIST, "there is one", str(path))
        self._need_room(num_bytes)
        self._folder(path.parent).files[path.name] = _File(bytearray(num_bytes))

    def names(self, folder: Path) -> list[str]:
        return sorted(self._folder(folder).files)

    def exists(self, path: Path) -> bool:
        return path.name in self._folder(path.parent).files

    def create(self, path: Path) -> int:
        self.step("create")
        self._need_room(1)
        file = self._folder(path.parent).files[path.name] = _File()
        return self._opened(file)

    def _opened(self, file: _File | None) -> int:
        self._numbers += 1
        self._open[self._numbers] = file
        return self._numbers

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self.step("write")
        self._need_room(len(data))
        file = self._open[fd]
        assert file is not None
        taken = data if self._draws.below(4) else data[: 1 + self._draws.below(len(data))]
        file.content += taken
        return len(taken)

    def sync(self, fd: int) -> None:
        self.step("sync")
        file = self._open[fd]
        if file is not None:
            file.safe = bytes(file.content)

    def close(self, fd: int) -> None:
        del self._open[fd]

    def rename(self, old: Path, new: Path) -> None:
        self.step("rename")
        file = self._folder(old.parent).files.pop(old.name, None)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(old))
        self._folder(new.parent).files[new.name] = file

    def sync_folder(self, path: Path) -> None:
        self.step("sync of a folder")
        folder = self._folder(path)
        folder.safe = dict(folder.files)

    def unlink(self, path: Path) -> None:
        self.step("unlink")
        if self._folder(path.parent).files.pop(path.name, None) is not None and path.name == "reserve":
            self._free += RESERVE_BYTES

    def connect(self, path: Path) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite3.connect(
                ":memory:", check_same_thread=False, isolation_level=None, factory=SimulatedDatabase
            )
            self._database.disk = self
        return self._database

    def write_row(self) -> None:
        try:
            self._need_room(_ROW_BYTES)
        except OSError:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error from None

    def end(self) -> None:
        """Nobody will use it any more."""
        if self._database is not None:
            super(SimulatedDatabase, self._database).close()


class SimulatedDatabase(sqlite3.Connection):
    """In memory; it outlives the servers that close it."""

    disk: SimulatedDisk

    def close(self) -> None: ...

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql.startswith(_CHANGES):
            self.disk.step(sql[:12])
            self.disk.write_row()
        return super().execute(sql, parameters)


def _put(names: dict[str, _File], name: str, file: _File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file
