"""manifest.lock.json: what was fetched, and what lies on disk because of it, with sizes and SHA-256."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from bt_model.atomic_files import write_json
from bt_model.checkpoints.json_files import read_json
from bt_model.errors import CheckpointError

LOCK = "manifest.lock.json"
_CHUNK = 1 << 20

Facts = dict[str, str | int]


@dataclass(slots=True)
class Lock:
    """`fetched`: the hub's files as REPO/FILE; `placed`: files as they are called below the set's folder.

    They are not the same bytes where a pickle was converted.
    """

    fetched: dict[str, Facts] = field(default_factory=dict[str, Facts])
    placed: dict[str, Facts] = field(default_factory=dict[str, Facts])

    def place(self, folder: Path, to: str) -> None:
        """Take down what lies at a file or folder below `folder`."""
        target = folder / to
        found = sorted(path for path in target.rglob("*") if path.is_file()) if target.is_dir() else [target]
        self.placed |= {path.relative_to(folder).as_posix(): facts_of(path) for path in found}

    def check(self, folder: Path, to: str = "") -> int:
        """How many files at `to`, or in the whole folder, are as they were taken down.

        Raises:
            CheckpointError: one is missing, or has another size or hash.
        """
        names = [name for name in self.placed if not to or name == to or name.startswith(f"{to}/")]
        for name in names:
            _check(folder / name, self.placed[name])
        return len(names)


def read_lock(folder: Path) -> Lock:
    """What a set's folder says of itself; nothing where it says nothing.

    Raises:
        CheckpointError: not a lock.
    """
    path = folder / LOCK
    if not path.is_file():
        return Lock()
    told = read_json(path)
    parts = {name: told.get(name) for name in ("fetched", "placed")}
    for name, entries in parts.items():
        known = cast(dict[str, Any], entries) if isinstance(entries, dict) else {"": None}
        if not all(isinstance(facts, dict) and {"sha256", "bytes"} <= set(facts) for facts in known.values()):
            raise CheckpointError(f"{path}: {name} is {entries!r}; allowed: sha256 and bytes of each file")
    return Lock(**cast(dict[str, Any], parts))


def write_lock(folder: Path, lock: Lock) -> None:
    """All or nothing."""
    write_json(folder / LOCK, asdict(lock))


def facts_of(path: Path) -> Facts:
    """Size and hash of a file."""
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


def sha256_of(path: Path) -> str:
    """In hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check(path: Path, known: Facts) -> None:
    way_out = "remove it and fetch again"
    if not path.is_file():
        raise CheckpointError(f"{path}: is in {LOCK}, and missing; {way_out}")
    if path.stat().st_size != known["bytes"]:
        size = path.stat().st_size
        raise CheckpointError(f"{path}: {size} bytes; {LOCK} says {known['bytes']}; {way_out}")
    if (digest := sha256_of(path)) != known["sha256"]:
        raise CheckpointError(f"{path}: SHA-256 is {digest}; {LOCK} says {known['sha256']}; {way_out}")
