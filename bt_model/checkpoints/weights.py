"""The tensors of one checkpoint by published name: names and shapes at once, bytes only when asked for."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from safetensors import SafetensorError, safe_open

from bt_model.checkpoints.json_files import read_json
from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Shape: TypeAlias = tuple[int, ...]
Source: TypeAlias = "Path | Mapping[str, Tensor]"

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Weights(Mapping[str, "Tensor"]):
    """A read-only view of a checkpoint. `where` names it in errors."""

    def __init__(self, where: str, shapes: Mapping[str, Shape], read: "Callable[[str], Tensor]") -> None:
        self.where = where
        self.shapes = shapes
        self._read = read

    def __getitem__(self, name: str) -> "Tensor":
        if name not in self.shapes:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def open_weights(source: Source) -> Weights:
    """A safetensors file, a folder with one or with an index of several, or tensors in memory.

    Raises:
        CheckpointError: a file that is missing, damaged, or not safetensors.
    """
    if isinstance(source, Weights):
        return source
    if not isinstance(source, Path):
        return Weights(
            "tensors in memory", {k: tuple(v.shape) for k, v in source.items()}, source.__getitem__
        )
    if not source.is_dir():
        return _open_file(source)
    if (source / INDEX).is_file():
        return _open_index(source)
    return _open_file(source / SINGLE)


def metadata_of(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself; nothing for a folder of several."""
    file = path / SINGLE if path.is_dir() else path
    if not file.is_file():
        return {}
    try:
        with safe_open(file, framework="np") as opened:  # torch is not needed, and its import is slow
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: not a readable safetensors file ({error})") from error


def _open_file(path: Path) -> Weights:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: only safetensors files are read, not {path.suffix or 'this'}")
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    shapes: dict[str, Shape] = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    return Weights(str(path), shapes, file.get_tensor)


def read_index(path: Path) -> dict[str, str]:
    """Which file of the same folder holds a tensor, by the tensor's name.

    Raises:
        CheckpointError: not an index, or one that names a file outside its folder.
    """
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: weight_map is {weight_map!r}; allowed: a file's name for each tensor")
    for name, file in cast(dict[str, Any], weight_map).items():
        if not isinstance(file, str) or Path(file).name != file or file == "..":
            raise CheckpointError(
                f"{path}: {name} is in {file!r}; allowed: the name of a file beside the index"
            )
    return cast(dict[str, str], weight_map)


def _open_index(folder: Path) -> Weights:
    weight_map = read_index(folder / INDEX)
    shards = {name: _open_file(folder / name) for name in sorted(set(weight_map.values()))}
    lost = [name for name, shard in weight_map.items() if name not in shards[shard].shapes]
    if lost:
        raise CheckpointError(f"{folder / INDEX}: tensors that their file does not hold: {', '.join(lost)}")
    shapes = {name: shards[shard].shapes[name] for name, shard in weight_map.items()}
    return Weights(str(folder), shapes, lambda name: shards[weight_map[name]][name])
