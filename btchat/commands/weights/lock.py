"""manifest.lock.json: the fetched files, and the files written to disk, with sizes and SHA-256."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pydantic import ConfigDict

from bt_model.atomic_files import write_json
from bt_model.checkpoints.json_files import read_json
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.settings.refusal import validated

LOCK = "manifest.lock.json"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file is compared by."""

    __pydantic_config__ = ConfigDict(strict=True)

    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> Self:
        with path.open("rb") as file:
            return cls(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


@dataclass(frozen=True, slots=True)
class Lock:
    """`fetched`: the hub's files as REPO/FILE; `placed`: paths below the set's folder.

    Their contents differ where a pickle was converted.
    """

    fetched: dict[str, FileFacts]
    placed: dict[str, FileFacts]

    def record(self, folder: Path, to: str) -> None:
        """Note what lies at a file or folder below `folder`."""
        target = folder / to
        found = sorted(path for path in target.rglob("*") if path.is_file()) if target.is_dir() else [target]
        self.placed.update({path.relative_to(folder).as_posix(): FileFacts.of(path) for path in found})

    def check(self, folder: Path, to: str = "") -> int:
        """How many files at `to`, or in the whole folder, are as they were recorded.

        Raises:
            CheckpointError: one is missing, or has another size or hash.
        """
        names = [name for name in self.placed if not to or name == to or name.startswith(f"{to}/")]
        for name in names:
            _check(folder / name, self.placed[name])
        return len(names)


def read_lock(folder: Path) -> Lock:
    """The lock in a set's folder; an empty one where there is none.

    Raises:
        CheckpointError: not a lock.
    """
    path = folder / LOCK
    if not path.is_file():
        return Lock({}, {})
    try:
        return validated(Lock, read_json(path))
    except InvalidValueError as error:
        raise CheckpointError(f"{path}: {error.message}") from error


def write_lock(folder: Path, lock: Lock) -> None:
    """All or nothing."""
    write_json(folder / LOCK, asdict(lock))


def _check(path: Path, known: FileFacts) -> None:
    way_out = "remove it and fetch again"
    if not path.is_file():
        raise CheckpointError(f"{path}: is in {LOCK}, and missing; {way_out}")
    found = FileFacts.of(path)
    if found.bytes != known.bytes:
        raise CheckpointError(f"{path}: {found.bytes} bytes; {LOCK} says {known.bytes}; {way_out}")
    if found.sha256 != known.sha256:
        raise CheckpointError(f"{path}: SHA-256 is {found.sha256}; {LOCK} says {known.sha256}; {way_out}")
