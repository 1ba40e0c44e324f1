"""Folders for the tokens of uploads on disk: one for each owner and content.

The web process makes and removes them; the engine process writes into those that are there and makes none. So
what was deleted stays deleted, whatever is still being encoded and whether or not an engine runs, and videos
inside requests leave nothing on disk.
"""

import contextlib
import hashlib
import json
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TOKENS = "tokens"
"""The folder of these folders, in the data folder."""

_PRIVATE_FOLDER = 0o700
_DIGEST_BYTES, _LENGTH_BYTES = 32, 8
_MAX_HEADER_BYTES = 1 << 20
_MAX_SHOWN = 64


def source_key(tenant: str, sha256: str) -> bytes:
    """A digest of a video's content and of who owns it, with which all keys of its tokens begin."""
    return hashlib.sha256(json.dumps([tenant, sha256]).encode()).digest()


class TokenFolders:
    """Synchronous; the store calls it from the thread that has the rows, so that both agree."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        self._folder = folder

    def add(self, tenant: str, sha256: str) -> None:
        """From now on tokens of this video are kept; where the disk is full, they are not."""
        with contextlib.suppress(OSError):
            self._path(tenant, sha256).mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)

    def remove(self, tenant: str, sha256: str) -> tuple[int, int]:
        """Delete a video's tokens; how many files that were, and their bytes."""
        return _remove(self._path(tenant, sha256))

    def samplings(self, tenant: str, sha256: str) -> dict[str, dict[str, Any]]:
        """What a video's tokens were sampled by, for each file that can be read, by its name."""
        found: dict[str, dict[str, Any]] = {}
        for path in _files(self._path(tenant, sha256))[:_MAX_SHOWN]:
            with contextlib.suppress(
                OSError, ValueError, KeyError
            ):  # a file that is being written, or damaged
                found[path.name] = _receipt(path)["sampling"]
        return found

    def sweep(self, sources: Iterable[tuple[str, str]]) -> None:
        """Have a folder for each of these owners and contents, and nothing else."""
        known = set(sources)
        names = {self._path(*source).name for source in known}
        for path in [path for path in self._folder.iterdir() if path.name not in names]:
            _remove(path)
        for source in known:
            self.add(*source)

    def _path(self, tenant: str, sha256: str) -> Path:
        return self._folder / source_key(tenant, sha256).hex()


def _receipt(path: Path) -> dict[str, Any]:
    """Of a token file: it stands in a safetensors header, behind a checksum (server/worker/token_file.py)."""
    with path.open("rb") as file:
        file.seek(_DIGEST_BYTES)
        num_bytes = min(int.from_bytes(file.read(_LENGTH_BYTES), "little"), _MAX_HEADER_BYTES)
        return json.loads(json.loads(file.read(num_bytes))["__metadata__"]["receipt"])


def _files(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _remove(folder: Path) -> tuple[int, int]:
    doomed = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.deleted")
    try:
        folder.rename(doomed)  # first, so that nobody can write into it while it is emptied
    except OSError:  # there is none, or its name cannot be changed
        doomed = folder
    sizes = [_size(path) for path in _files(doomed)]
    shutil.rmtree(doomed, ignore_errors=True)
    return len(sizes), sum(sizes)
