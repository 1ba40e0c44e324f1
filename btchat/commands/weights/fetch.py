"""Downloads a set, converts its pickles, and writes its model file last, as a mark of completeness."""

import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download

from bt_model.atomic_files import write_json
from bt_model.checkpoints.conversion.convert import convert
from bt_model.checkpoints.weights import INDEX, SINGLE, open_weights
from bt_model.errors import BtchatError, CheckpointError
from btchat.commands.weights.lock import FileFacts, Lock, read_lock, write_lock
from btchat.commands.weights.manifest import Item, WeightSet

_PICKLES = (".bin", ".pth", ".pt")
Report = Callable[[str], None]


def fetch(chosen: WeightSet, weights_dir: Path, report: Report, *, dry_run: bool = False) -> None:
    """Download a set to weights_dir/NAME. Files that match the hashes of the lock are kept.

    Raises:
        BtchatError: the hub cannot be reached, lacks a file, or the disk is too small.
        CheckpointError: a file whose hash or size differs from the manifest or the lock, or that cannot be
            read or converted.
    """
    folder = weights_dir / chosen.name
    for item in chosen.items:
        report(f"{item.source} -> {folder / item.to}  [{item.licence}]")
    if dry_run:
        report(_room(chosen, weights_dir))
        return
    for item in chosen.items:
        if not item.repo and not (folder / item.to).exists():
            raise BtchatError(f"{folder / item.to}: no hub has {item.file}; {item.note}")
    _check_disk(chosen, weights_dir)
    files = {item: _files_of(item) for item in chosen.items if item.repo}
    folder.mkdir(parents=True, exist_ok=True)
    lock = read_lock(folder)
    for item, names in files.items():
        if (folder / item.to).exists():
            known = lock.check(folder, item.to)
            report(f"{folder / item.to} is there" + ("" if known else ", and not known to have been fetched"))
            continue
        _download(item, names, folder, lock, report)
        write_lock(folder, lock)
    if chosen.model:
        write_json(folder / f"{chosen.name}.model.json", {"id": chosen.name, **chosen.model})


def _room(chosen: WeightSet, weights_dir: Path) -> str:
    """What is known of the download's size, and the room for it."""
    there = next(path for path in (weights_dir.absolute(), *weights_dir.absolute().parents) if path.is_dir())
    free = f"{shutil.disk_usage(there).free / 1e9:.1f} GB are free"
    if not chosen.num_bytes:
        return f"{there}: {free}; the manifest does not know how much this set takes"
    known = f"at least {chosen.num_bytes / 1e9:.1f} GB to download, and as much again while it is converted"
    return f"{there}: {known}; {free}"


def _files_of(item: Item) -> list[str]:
    """The files on the hub that match an item; each of its patterns must match at least one."""
    if "*" not in item.file and len(item.patterns) == 1 and not item.optional:
        return [item.file]
    try:
        listed = HfApi().list_repo_files(item.repo)
    except Exception as error:  # whatever the client's own HTTP client raises
        raise _unreachable(item, error) from error
    lacking = [pattern for pattern in item.patterns if not any(_fits(name, pattern) for name in listed)]
    if lacking:
        raise BtchatError(f"{item.repo}: the hub has no {', '.join(lacking)}, which {item.to} needs")
    wanted = (*item.patterns, *item.optional_patterns)
    return [name for name in listed if any(_fits(name, pattern) for pattern in wanted)]


def _fits(name: str, pattern: str) -> bool:
    """Match folder by folder: a star matches neither a slash nor `..`."""
    parts, patterns = PurePosixPath(name).parts, PurePosixPath(pattern).parts
    if len(parts) != len(patterns) or ".." in parts:
        return False
    return all(fnmatchcase(part, each) for part, each in zip(parts, patterns, strict=True))


def _download(item: Item, names: list[str], folder: Path, lock: Lock, report: Report) -> None:
    """Download into a temporary folder, which is kept after an interruption, to resume from."""
    downloads = folder / ".download" / item.repo.replace("/", "--")
    for name in names:
        try:
            path = Path(hf_hub_download(item.repo, name, local_dir=downloads))
        except Exception as error:
            raise _unreachable(item, error) from error
        facts = FileFacts.of(path)
        if len(names) == 1:
            _check_file(path, item, facts)
        lock.fetched[f"{item.repo}/{name}"] = facts
    _store(item, downloads, names, folder, report)
    lock.record(folder, item.to)
    shutil.rmtree(downloads, ignore_errors=True)


def _store(item: Item, downloads: Path, names: list[str], folder: Path, report: Report) -> None:
    target = folder / item.to
    target.parent.mkdir(parents=True, exist_ok=True)
    if any(name.endswith(_PICKLES) for name in names):
        source = downloads / names[0] if len(names) == 1 else downloads
        base = folder / item.base if item.base else None
        report(str(convert(source, target, base=base, blocks=item.blocks or None)))
        return
    if len(names) == 1 and target.suffix == ".safetensors":
        open_weights(downloads / names[0])  # one that was published damaged is refused here
        (downloads / names[0]).rename(target)
        return
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name in names:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (downloads / name).rename(part / name)
    if (part / SINGLE).is_file() or (part / INDEX).is_file():
        open_weights(part)
    part.rename(target)


def _check_file(path: Path, item: Item, facts: FileFacts) -> None:
    if item.num_bytes and facts.bytes != item.num_bytes:
        raise CheckpointError(f"{path}: {facts.bytes} bytes; the manifest says {item.num_bytes}")
    if item.sha256 and facts.sha256 != item.sha256:
        raise CheckpointError(f"{path}: SHA-256 is {facts.sha256}; the manifest says {item.sha256}")


def _check_disk(chosen: WeightSet, weights_dir: Path) -> None:
    """Require twice the download: the original and its conversion exist at the same time."""
    weights_dir.mkdir(parents=True, exist_ok=True)
    needed, free = 2 * chosen.num_bytes, shutil.disk_usage(weights_dir).free
    if needed > free:
        raise BtchatError(f"{weights_dir}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def _unreachable(item: Item, error: Exception) -> BtchatError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BtchatError(
        f"{item.repo}/{item.file}: cannot be fetched ({reason}); run the same command to go on"
    )
