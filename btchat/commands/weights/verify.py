"""Verifies files on disk: hashes, every tensor readable and finite, every name of a model file present."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from bt_model.assembly.model_file import read_model_file
from bt_model.checkpoints.weights import is_finite, open_checkpoint, open_weights
from bt_model.errors import BtchatError, CheckpointError
from btchat.commands.models import parts
from btchat.commands.weights.lock import LOCK, read_lock

_NOT_LAYOUTS = ("lora", "search.tokenizer", "search.bank")  # a folder of PEFT's, words, and texts


def verify(folder: Path) -> Iterator[str]:
    """A line for each lock, each safetensors file and each model file below a folder.

    Raises:
        CheckpointError: the first failed check.
    """
    files = sorted(folder.rglob("*.safetensors"))
    models = sorted(folder.rglob("*.model.json"))
    if not files:
        raise CheckpointError(f"{folder}: no safetensors file there")
    for path in sorted(folder.rglob(LOCK)):
        yield f"{path}: {read_lock(path.parent).check(path.parent)} files, all as they were fetched"
    for path in files:
        yield _check_file(path)
    layout_of = cache(lambda path: open_checkpoint(path).layout.name)
    for path in models:
        yield _check_model(path, layout_of)


def _check_file(path: Path) -> str:
    weights = open_weights(path)
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not is_finite(tensor):
            raise CheckpointError(f"{path}: {name} holds a number that is not finite")
    return f"{path}: {len(weights)} tensors, all readable and finite"


def _check_model(path: Path, layout_of: Callable[[Path], str]) -> str:
    model = read_model_file(path)
    layouts: list[str] = []
    for part in parts(path.parent, model):
        if part.num_bytes is None:
            raise CheckpointError(f"{path}: {part.name} names {part.path}, which is missing")
        if part.name not in _NOT_LAYOUTS:
            layouts.append(f"{part.name} is a {layout_of(part.path)}")
    return f"{path}: {'; '.join(layouts)}"


def folder_of(name: str, weights_dir: Path) -> Path:
    """A folder by path, or by the name of a set.

    Raises:
        BtchatError: neither.
    """
    for folder in (Path(name), weights_dir / name):
        if folder.is_dir():
            return folder
    raise BtchatError(f"{name!r} is no folder and nothing that was fetched to {weights_dir}", param="name")
