"""Where unfinished uploads go on, for this process and the next: a small file for each, found by its hash."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path("btchat", "uploads")
_KEPT_SECONDS = 7 * 24 * 3600.0  # a server keeps pieces for a day by default
_ID = re.compile(r"\w{1,64}")


@dataclass(frozen=True, slots=True)
class UploadStates:
    """A folder of states, or None for none; `owner` tells servers and keys apart."""

    folder: Path | None
    owner: str

    def find(self, sha256: str) -> str | None:
        """The id of an upload that was begun, if there is one."""
        with suppress(OSError, UnicodeDecodeError):
            if self.folder is not None:
                found = self._path(self.folder, sha256).read_text(encoding="ascii")
                return found if _ID.fullmatch(found) else None
        return None

    def keep(self, sha256: str, upload_id: str) -> None:
        """Remember it; where that is not possible, only this process goes on."""
        with suppress(OSError):
            if self.folder is not None:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                for path in self._outdated(self.folder):
                    path.unlink(missing_ok=True)
                path = self._path(self.folder, sha256)
                part = path.with_suffix(f".{os.getpid()}.part")
                part.write_text(upload_id, encoding="ascii")
                part.replace(path)

    def forget(self, sha256: str) -> None:
        with suppress(OSError):
            if self.folder is not None:
                self._path(self.folder, sha256).unlink(missing_ok=True)

    def _path(self, folder: Path, sha256: str) -> Path:
        return folder / hashlib.sha256(f"{self.owner}\n{sha256}".encode()).hexdigest()

    def _outdated(self, folder: Path) -> Iterator[Path]:
        oldest = time.time() - _KEPT_SECONDS
        return (path for path in folder.iterdir() if path.stat().st_mtime < oldest)


def default_folder() -> Path | None:
    """`btchat/uploads` of the user's caches; not every user has a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / _FOLDER
    except RuntimeError:
        return None
