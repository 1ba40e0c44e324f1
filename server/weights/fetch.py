"""Download a set, convert its pickles, write its model file last: what is there is whole."""

import hashlib
import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download

from bt_model.checkpoints.convert import convert
from bt_model.errors import BtchatError, CheckpointError
from server.weights.manifest import Item, WeightSet

LOCK = "manifest.lock.json"
_PICKLES = (".bin", ".pth", ".pt")
_CHUNK = 1 << 20
Say = Callable[[str], None]


def fetch(chosen: WeightSet, weights_dir: Path, say: Say, *, dry_run: bool = False) -> None:
    """Bring a set to weights_dir/NAME. A file that is there already, with the hash of the lock, stays.

    Raises:
        BtchatError: the hub cannot be reached, lacks a file, or the disk is too small.
        CheckpointError: a file of another hash or size than the manifest says, or that cannot be converted.
    """
    folder = weights_dir / chosen.name
    for item in chosen.items:
        say(f"{item.repo or 'your own'}/{item.file} -> {folder / item.to}  [{item.licence}]")
    if dry_run:
        return
    for item in chosen.items:
        if not item.repo and not (folder / item.to).exists():
            raise BtchatError(f"{folder / item.to}: no hub has {item.file}; {item.note}")
    _check_disk(chosen, weights_dir)
    files = {item: _files_of(item) for item in chosen.items if item.repo}
    folder.mkdir(parents=True, exist_ok=True)
    lock = _read_lock(folder)
    for item, names in files.items():
        if (folder / item.to).exists():
            say(f"{folder / item.to} is there")
            continue
        _bring(item, names, folder, lock, say)
        _write_json(folder / LOCK, lock)
    if chosen.model:
        _write_json(folder / f"{chosen.name}.model.json", {"id": chosen.name, **chosen.model})


def _files_of(item: Item) -> list[str]:
    if "*" not in item.file and "," not in item.file:
        return [item.file]
    patterns = [pattern.strip() for pattern in item.file.split(",")]
    try:
        listed = HfApi().list_repo_files(item.repo)
    except Exception as error:  # whatever the client's own HTTP client raises
        raise _unreachable(item, error) from error
    return [name for name in listed if any(fnmatch(name, pattern) for pattern in patterns)]


def _bring(item: Item, names: list[str], folder: Path, lock: dict[str, Any], say: Say) -> None:
    """Download into a folder of its own, which stays for the next try when it is cut off."""
    place = folder / ".download" / item.repo.replace("/", "--")
    for name in names:
        try:
            path = Path(hf_hub_download(item.repo, name, local_dir=place))
        except Exception as error:
            raise _unreachable(item, error) from error
        digest = sha256_of(path)
        known = item.sha256 if len(names) == 1 else ""
        _check_file(path, item if len(names) == 1 else None, digest, known)
        lock[f"{item.repo}/{name}"] = {"sha256": digest, "bytes": path.stat().st_size}
    _place(item, [place / name for name in names], folder, say)
    shutil.rmtree(place, ignore_errors=True)


def _place(item: Item, paths: list[Path], folder: Path, say: Say) -> None:
    target = folder / item.to
    target.parent.mkdir(parents=True, exist_ok=True)
    if any(path.suffix in _PICKLES for path in paths):
        source = paths[0] if len(paths) == 1 else paths[0].parent
        base = folder / item.base if item.base else None
        say(str(convert(source, target, base=base, blocks=item.blocks or None)))
        return
    if len(paths) == 1 and target.suffix == ".safetensors":
        paths[0].rename(target)
        return
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for path in paths:
        (part / path.name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(part / path.name)
    part.rename(target)


def _check_file(path: Path, item: Item | None, digest: str, known: str) -> None:
    size = path.stat().st_size
    if item is not None and item.num_bytes and size != item.num_bytes:
        raise CheckpointError(f"{path}: {size} bytes; the manifest says {item.num_bytes}")
    if known and digest != known:
        raise CheckpointError(f"{path}: SHA-256 is {digest}; the manifest says {known}")


def _check_disk(chosen: WeightSet, weights_dir: Path) -> None:
    """Twice the download: it and what it is converted to are there together for a while."""
    weights_dir.mkdir(parents=True, exist_ok=True)
    needed, free = 2 * chosen.num_bytes, shutil.disk_usage(weights_dir).free
    if needed > free:
        raise BtchatError(f"{weights_dir}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def _unreachable(item: Item, error: Exception) -> BtchatError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BtchatError(
        f"{item.repo}/{item.file}: cannot be fetched ({reason}); run the same command to go on"
    )


def sha256_of(path: Path) -> str:
    """In hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read_lock(folder: Path) -> dict[str, Any]:
    path = folder / LOCK
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _write_json(path: Path, values: Any) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
