"""The data folder: one server's at a time, private, and with some space in reserve."""

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bt_model.errors import InvalidValueError
from server.uploads.disk import Disk, is_full
from server.uploads.token_folders import TOKENS

log = logging.getLogger(__name__)

_T = TypeVar("_T")

RESERVE_BYTES = 1024 * 1024
_DATABASE = "btchat.sqlite3"


class DataFolder:
    """Where uploads, their catalogue and their tokens lie."""

    def __init__(self, path: Path, disk: Disk) -> None:
        """Raises InvalidValueError if another server uses the folder, OSError if it cannot be used."""
        self.path = path
        self.videos = path / "videos"
        self.incoming = path / "incoming"
        self.tokens = path / TOKENS
        self.database = path / _DATABASE
        self._disk = disk
        self._reserve = path / "reserve"
        self._lock = _locked(path, disk)
        try:
            for folder in (self.videos, self.incoming, self.tokens):
                disk.make_folder(folder)
            for folder in (path, self.videos, self.incoming):  # from a version that left them as they were
                for name in disk.names(folder):
                    if folder != path or name.startswith(_DATABASE):
                        disk.protect(folder / name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another server have it."""
        self._disk.close(self._lock)

    @property
    def is_full(self) -> bool:
        """Whether so little space is left that the reserve could not be made again."""
        try:
            return self._disk.free_bytes(self.path) < RESERVE_BYTES
        except OSError:
            return True

    def with_reserve(self, call: Callable[[], _T]) -> _T:
        """What a call returns; where the disk is full, it gets what was kept for it.

        A database needs space also to delete: so a full disk could not be made emptier.
        """
        try:
            return call()
        except (OSError, sqlite3.Error) as error:
            if not is_full(error):
                raise
            log.warning("the disk is full: taking the reserve")
        self._disk.unlink(self._reserve)
        return call()

    @property
    def has_reserve(self) -> bool:
        return self._disk.exists(self._reserve) and self._disk.size(self._reserve) == RESERVE_BYTES

    def fill_reserve(self) -> None:
        """Keep some space, if there is any."""
        try:
            self._disk.unlink(self._reserve)  # one that was interrupted
            self._disk.allocate(self._reserve, RESERVE_BYTES)
        except OSError:
            with contextlib.suppress(OSError):
                self._disk.unlink(self._reserve)


def _locked(path: Path, disk: Disk) -> int:
    disk.make_folder(path)
    try:
        return disk.lock(path / "lock")
    except BlockingIOError as error:
        text = (
            f"data folder {path} is in use by {error.strerror}; stop that server, or choose another data_dir"
        )
        raise InvalidValueError(text, param="data_dir") from error
