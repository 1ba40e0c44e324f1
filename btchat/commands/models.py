"""`btchat models`: what can be loaded, and from which files. No torch: the list is there at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any

from bt_model.assembly.catalog import WEIGHTS_DIR, available
from bt_model.assembly.model_file import ModelFile, read_model_file
from bt_model.backends.registry import Origin, origins
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import CheckpointError
from btchat.commands.options import WeightsDir


@dataclass(frozen=True, slots=True)
class Part:
    """A file or folder that a model file names; `num_bytes` is None where it is missing."""

    name: str
    path: Path
    num_bytes: int | None


def models(*, weights_dir: WeightsDir = WEIGHTS_DIR, json: bool = False) -> None:
    """List the models that can be loaded.

    Args:
        json: for machines
    """
    lines = [dumps(describe_all(weights_dir), indent=2)] if json else table(weights_dir)
    for line in lines:
        print(line)


def describe_all(weights_dir: Path) -> dict[str, Any]:
    """Every model file below a folder and every backend, as JSON values."""
    return {
        "models": [
            _as_json(name, path, weights_dir) for name, path in sorted(available(weights_dir).items())
        ],
        "backends": [{"name": o.name, "distribution": o.distribution, "module": o.target} for o in origins()],
    }


def table(weights_dir: Path) -> Iterator[str]:
    """The same as lines of text."""
    known = {origin.name: origin for origin in origins()}
    for name, path in sorted(available(weights_dir).items()):
        yield from _model_lines(name, path, weights_dir, known)
    yield "backends"
    for origin in origins():
        yield f"  {origin.name:16s} {origin.distribution} ({origin.target})"


def _model_lines(name: str, path: Path, weights_dir: Path, known: dict[str, Origin]) -> Iterator[str]:
    yield name
    try:
        model = read_model_file(path, weights_dir)
    except CheckpointError as error:
        yield f"  cannot be read: {error.message}"
        return
    origin = known.get(model.backend)
    yield f"  backend    {model.backend} ({origin.distribution if origin else 'not installed'})"
    for part in parts(path.parent, model):
        size = "missing" if part.num_bytes is None else f"{part.num_bytes / 1e6:,.1f} MB"
        yield f"  {part.name:10s} {part.path}  {size}"
    if beside := model.ids_beside():
        yield f"  beside it  {', '.join(beside)}"
    if model.adapter is None:
        yield "  adapter    none: CLIP averaged over frames"
    elif kind := _kind(path.parent, model):
        yield f"  temporal   {kind}"
    if model.notice:
        yield f"  {model.notice}"


def parts(folder: Path, model: ModelFile) -> list[Part]:
    """The files and folders that a model file names."""
    return [Part(name, folder / part, _size(folder / part)) for name, part in model.parts.items()]


def _kind(folder: Path, model: ModelFile) -> str | None:
    """The kind in an adapter file's metadata; None if the file is missing, damaged or has no kind."""
    try:
        adapter = open_checkpoint(folder / model.adapter, is_listing=True) if model.adapter else None
    except CheckpointError:
        return None
    return None if adapter is None or adapter.temporal is None else adapter.temporal.name


def _size(path: Path) -> int | None:
    if path.is_file():
        return path.stat().st_size
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return None


def _as_json(name: str, path: Path, weights_dir: Path) -> dict[str, Any]:
    try:
        model = read_model_file(path, weights_dir)
    except CheckpointError as error:
        return {"name": name, "file": str(path), "error": error.message}
    listed = [{"part": p.name, "path": str(p.path), "bytes": p.num_bytes} for p in parts(path.parent, model)]
    known = {"id": model.id, "backend": model.backend, "temporal": _kind(path.parent, model)}
    return {"name": name, "file": str(path), **known, "adapters": list(model.ids_beside()), "parts": listed}
