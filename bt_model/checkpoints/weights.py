"""A checkpoint, opened once and handed on: names and shapes at once, bytes only when asked for."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from safetensors import SafetensorError, safe_open

from bt_model.checkpoints.json_files import read_config, read_json
from bt_model.checkpoints.layouts.detect import detect
from bt_model.checkpoints.layouts.key_map import KeyMap, Shape, Stored
from bt_model.checkpoints.metadata import KEY, parse_metadata, temporal_config
from bt_model.config import TemporalConfig
from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Source: TypeAlias = "Path | Mapping[str, Tensor]"

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_CHUNK = 1 << 22  # elements
_MIN_ITEMSIZE = 2  # bytes; numbers of one byte mean nothing without scales


class Weights(Mapping[str, "Tensor"]):
    """Tensors by published name, read when asked for. `where` names the checkpoint in errors."""

    def __init__(
        self,
        where: str,
        shapes: Mapping[str, Shape],
        read: "Callable[[str], Tensor]",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.where = where
        self.shapes = shapes
        self.metadata = metadata or {}
        self.on_first_read: Callable[[], None] | None = None
        self._read = read

    @property
    def files(self) -> "tuple[Weights, ...]":
        """One for each file on disk."""
        return (self,)

    def __getitem__(self, name: str) -> "Tensor":
        if name not in self.shapes:
            raise KeyError(name)
        if self.on_first_read is not None:
            report, self.on_first_read = self.on_first_read, None
            report()
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def parameter(self, name: str) -> "Tensor":
        """A tensor that a module is to compute with.

        Raises:
            CheckpointError: it holds no floating-point numbers, or some that are not finite.
        """
        tensor = self[name]
        if not tensor.is_floating_point() or tensor.itemsize < _MIN_ITEMSIZE:
            dtype, allowed = str(tensor.dtype).removeprefix("torch."), "float16, bfloat16, float32, float64"
            raise CheckpointError(f"{self.where}: {name} is {dtype}; allowed: {allowed}")
        if not is_finite(tensor):
            raise CheckpointError(f"{self.where}: {name} holds a number that is not finite")
        return tensor


class _Shards(Weights):
    """Several files as one; errors about a tensor name its own file."""

    def __init__(self, folder: Path, weight_map: Mapping[str, str], shards: Mapping[str, Weights]) -> None:
        self._of = {name: shards[file] for name, file in weight_map.items()}
        shapes = {name: shard.shapes[name] for name, shard in self._of.items()}
        super().__init__(str(folder), shapes, lambda name: self._of[name][name])
        self._files = tuple(shards.values())

    @property
    def files(self) -> tuple[Weights, ...]:
        return self._files

    def parameter(self, name: str) -> "Tensor":
        return self._of[name].parameter(name)


def is_finite(tensor: "Tensor") -> bool:
    """Whether every number is finite; one on the meta device has none. Takes no memory beside the tensor."""
    if tensor.is_meta:
        return True
    chunks = tensor.detach().reshape(-1).split(_CHUNK)
    # A number that is not finite makes the sum so, which is faster to compute. The sum may also overflow.
    return all(bool(chunk.sum().isfinite()) or bool(chunk.isfinite().all()) for chunk in chunks)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a file or folder of weights holds.

    `parts`: by part (key_map.PARTS), our parameter names and how each is stored. `metadata`: of a temporal
    model, and `temporal` the settings in it, None without a kind. `config`: the folder's config.json.
    """

    path: Path
    weights: Weights
    layout: KeyMap
    parts: Mapping[str, Mapping[str, Stored]]
    metadata: Mapping[str, Any]
    temporal: TemporalConfig | None
    config: Mapping[str, Any] | None

    @property
    def where(self) -> str:
        return self.weights.where

    def shapes(self, part: str) -> dict[str, Shape]:
        """Parameter names of one part, with their shapes; empty for a part that is not there."""
        stored = self.parts.get(part, {})
        return {name: each.shape(self.weights.shapes[each.key]) for name, each in stored.items()}

    def read(self, part: str, names: Iterable[str] | None = None) -> "dict[str, Tensor]":
        """Some tensors of one part (all of them without `names`) by our names, each stored one read once.

        Raises:
            CheckpointError: numbers that are not finite, or no floating-point numbers.
        """
        stored = self.parts.get(part, {})
        tensors: dict[str, Tensor] = {}
        for key, group in groupby(stored if names is None else names, lambda name: stored[name].key):
            tensor = self.weights.parameter(key)
            tensors |= {name: stored[name].take(tensor) for name in group}
        return tensors

    def count_layers(self, part: str, prefix: str) -> int:
        """How many layers of one part there are, whose names begin with `prefix` and a number."""
        pattern = re.compile(rf"{re.escape(prefix)}(\d+)\.")
        return len({match[1] for name in self.parts.get(part, {}) if (match := pattern.match(name))})

    def beside(self, num_layers: int) -> "Checkpoint":
        """The same for a trunk of `num_layers`, which decides where a slice belongs and what is left out."""
        layout = detect(self.weights, self.where, num_layers)
        if layout == self.layout:
            return self
        return replace(self, layout=layout, parts=_map_names(self.weights, layout))

    def required_config(self) -> Mapping[str, Any]:
        """Raises CheckpointError: no config.json there."""
        return read_config(self.path) if self.config is None else self.config


def open_checkpoint(source: Source, *, is_listing: bool = False) -> Checkpoint:
    """A safetensors file, a folder with one or with an index of several, or tensors in memory.

    One that `is_listing` is opened without torch, and its tensors cannot be read.

    Raises:
        CheckpointError: a file that is missing or damaged, names of no known layout, or wrong metadata.
    """
    weights = open_weights(source, is_listing=is_listing)
    path = source if isinstance(source, Path) else Path(weights.where)
    layout = detect(weights, weights.where)
    metadata = parse_metadata(weights.where, weights.metadata.get(KEY))
    return Checkpoint(
        path,
        weights,
        layout,
        _map_names(weights, layout),
        metadata,
        temporal_config(weights.where, metadata),
        read_config(path) if (path / "config.json").is_file() else None,
    )


def _map_names(weights: Weights, layout: KeyMap) -> dict[str, dict[str, Stored]]:
    parts: dict[str, dict[str, Stored]] = {}
    unknown: list[str] = []
    for key in weights:
        stored = layout.stored(key)
        if not stored and layout.why_dropped(key) is None:
            unknown.append(key)
        for name, each in stored.items():
            part, _, parameter = name.partition(".")
            parts.setdefault(part, {})[parameter] = each
    if unknown:
        raise CheckpointError(f"{weights.where}: unexpected {', '.join(unknown)} in a {layout.name}")
    return parts


def open_weights(source: Source, *, is_listing: bool = False) -> Weights:
    """The tensors of a checkpoint of any layout.

    Raises:
        CheckpointError: a file that is missing, damaged, or not safetensors.
    """
    if isinstance(source, Weights):
        return source
    if not isinstance(source, Path):
        shapes = {name: tuple(tensor.shape) for name, tensor in source.items()}
        return Weights("tensors in memory", shapes, source.__getitem__)
    if (source / INDEX).is_file():
        return _open_index(source, is_listing=is_listing)
    return _open_file(source / SINGLE if source.is_dir() else source, is_listing=is_listing)


def _open_file(path: Path, *, is_listing: bool) -> Weights:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: only safetensors files are read, not {path.suffix or 'this'}")
    try:
        file = safe_open(path, framework="np" if is_listing else "pt")  # torch takes seconds to import
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    shapes: dict[str, Shape] = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    return Weights(str(path), shapes, file.get_tensor, file.metadata())


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


def _open_index(folder: Path, *, is_listing: bool) -> Weights:
    weight_map = read_index(folder / INDEX)
    shards = {
        file: _open_file(folder / file, is_listing=is_listing) for file in sorted(set(weight_map.values()))
    }
    absent = [name for name, file in weight_map.items() if name not in shards[file].shapes]
    if absent:
        raise CheckpointError(f"{folder / INDEX}: tensors that their file does not hold: {', '.join(absent)}")
    return _Shards(folder, weight_map, shards)
