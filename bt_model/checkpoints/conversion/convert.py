"""Published pickles to safetensors under their published names: shard by shard, all or nothing.

A model of any size takes the memory of one output shard and one tensor. A delta is added to its base in the
same pass.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from bt_model.checkpoints.conversion.eva_config import eva_config
from bt_model.checkpoints.conversion.torch_file import TorchFile
from bt_model.checkpoints.weights import INDEX, SINGLE, Weights, open_weights, read_index
from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 2 << 30
_TORCH_INDEX = "pytorch_model.bin.index.json"
_PICKLES = (".bin", ".pth", ".pt")
_COPIED = ("config.json", "generation_config.json", "preprocessor_config.json")
_COPIED_PATTERNS = (
    "tokenizer*",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.txt",
    "qformer_tokenizer/*",
)
_GROWN = re.compile(r"(embed_tokens|lm_head)\.weight$")  # a chat model adds rows to its base's
_WHOLE = re.compile(r"(^|\.)mm_projector\.|\.rotary_emb\.inv_freq$")  # no differences, even in a delta
_RESERVED = "__metadata__"  # of the safetensors format

Progress = Callable[[str, int], None]


@dataclass(slots=True)
class Converted:
    """What was written, and what was left out, of the source's entries."""

    out: Path
    names: list[str] = field(default_factory=list[str])
    dropped: dict[str, str] = field(default_factory=dict[str, str])
    unknown: set[str] = field(default_factory=set[str])
    merged: int = 0
    num_bytes: int = 0

    def __str__(self) -> str:
        lines = [f"{self.out}: {len(self.names)} tensors, {self.num_bytes / 1e9:.2f} GB"]
        if self.merged:
            lines.append(f"  {self.merged} of them added to the base")
        lines += [f"  left out {name}: {why}" for name, why in sorted(self.dropped.items())]
        if self.unknown:
            lines.append(f"  not run: {', '.join(sorted(self.unknown))}")
        return "\n".join(lines)


def convert(
    source: Path,
    out: Path,
    *,
    base: Path | None = None,
    dtype: torch.dtype | None = None,
    blocks: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Converted:
    """Convert a file or folder; `out` is a folder, or one file where its name ends in .safetensors.

    `blocks` is how many of an EVA tower's blocks are to be used, None for all. `progress` is called with each
    tensor's name and bytes once it is read.

    Raises:
        CheckpointError: a source that cannot be read, a base that does not fit, blocks that the source does
            not have, or an `out` that exists.
    """
    if out.exists():
        raise CheckpointError(f"{out}: exists already; remove it first")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        done = Converted(out)
        writer = _ShardWriter(part, shard_bytes)
        below = None if base is None else _Base(base)
        for name, tensor in _tensors(source, done):
            whole = tensor if below is None else _merged(name, tensor, below, done)
            cast = whole.to(dtype) if dtype is not None and whole.is_floating_point() else whole
            writer.add(name, cast)
            done.names.append(name)
            done.num_bytes += cast.nbytes
            if progress is not None:
                progress(name, cast.nbytes)
        if not done.names:
            raise CheckpointError(f"{source}: holds no tensor")
        writer.finish()
        _copy_beside(source, part)
        _describe_eva(source, part, writer.shapes, blocks)
        _publish(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return done


def sources_of(source: Path) -> list[Path]:
    """The files of a checkpoint, in the order of its index.

    Raises:
        CheckpointError: nothing there that could be converted.
    """
    if source.is_file():
        return [source]
    index = source / _TORCH_INDEX
    if index.is_file():
        return [source / name for name in dict.fromkeys(read_index(index).values())]
    found = sorted(path for path in source.glob("*") if path.suffix in _PICKLES) if source.is_dir() else []
    if not source.exists():
        raise CheckpointError(f"{source}: there is no such file or folder; check the path")
    if not found:
        raise CheckpointError(f"{source}: no {', '.join(_PICKLES)} file there")
    return found


def _tensors(source: Path, done: Converted) -> "Iterator[tuple[str, Tensor]]":
    for path in sources_of(source):
        file = TorchFile(path)
        done.unknown |= file.unknown
        done.dropped |= file.left_out
        for name in file:
            yield name, file[name]


class _Base:
    """The tensors that a delta is added to, in either file format, read one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: list[Mapping[str, Tensor]] = []
        if path.is_dir() and ((path / INDEX).is_file() or (path / SINGLE).is_file()):
            weights: Weights = open_weights(path)
            self._files = [weights]
        else:
            self._files = [TorchFile(file) for file in sources_of(path)]

    def get(self, name: str) -> "Tensor | None":
        return next((file[name] for file in self._files if name in file), None)


def _merged(name: str, delta: "Tensor", base: _Base, done: Converted) -> "Tensor":
    if _WHOLE.search(name):
        return delta
    below = base.get(name)
    if below is None:
        raise CheckpointError(f"{base.path}: {name} of the delta is not in this base; it has other names")
    done.merged += 1
    if below.shape == delta.shape:
        return delta + below.to(delta.dtype)
    shapes = (tuple(delta.shape), tuple(below.shape))
    if not (_GROWN.search(name) and _grows(*shapes)):
        raise CheckpointError(f"{base.path}: {name} does not fit its delta ({shapes[0]} over {shapes[1]})")
    whole = delta.clone()
    whole[: below.shape[0], : below.shape[1]] += below.to(delta.dtype)
    return whole


def _grows(delta: tuple[int, ...], below: tuple[int, ...]) -> bool:
    """Whether one matrix is the other with more rows or columns."""
    return len(delta) == len(below) == 2 and all(a >= b for a, b in zip(delta, below, strict=True))  # noqa: PLR2004 - rows, columns


class _ShardWriter:
    """Collects tensors and writes a file once they reach the shard size."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self._folder = folder
        self._limit = shard_bytes
        self._open: dict[str, Tensor] = {}
        self._num_bytes = 0
        self._shards: list[list[str]] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def add(self, name: str, tensor: "Tensor") -> None:
        if name in self.shapes:
            raise CheckpointError(f"{name} is in two shards of the source")
        if name == _RESERVED:
            raise CheckpointError(f"a tensor is called {name}, which no safetensors file can hold")
        if self._open and self._num_bytes + tensor.nbytes > self._limit:
            self._write()
        self._open[name] = tensor
        self._num_bytes += tensor.nbytes
        self.shapes[name] = tuple(tensor.shape)

    def finish(self) -> None:
        """Write the remaining tensors, and the index if there are several files."""
        self._write()
        count = len(self._shards)
        if count == 1:
            (self._folder / "0.shard").rename(self._folder / SINGLE)
            return
        weight_map: dict[str, str] = {}
        for number, names in enumerate(self._shards):
            file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
            (self._folder / f"{number}.shard").rename(self._folder / file)
            weight_map |= dict.fromkeys(names, file)
        index = {"metadata": {}, "weight_map": weight_map}
        (self._folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")

    def _write(self) -> None:
        if not self._open:
            return
        path = self._folder / f"{len(self._shards)}.shard"
        try:
            save_file(self._open, path, metadata={"format": "pt"})
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be written ({error})") from error
        path.chmod(0o644)
        self._shards.append(list(self._open))
        self._open, self._num_bytes = {}, 0


def _copy_beside(source: Path, part: Path) -> None:
    if source.is_dir():
        named = [source / name for name in _COPIED]
        found = [path for pattern in _COPIED_PATTERNS for path in source.glob(pattern)]
        for path in (*named, *found):
            if path.is_file():
                target = part / path.relative_to(source)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)


def _describe_eva(source: Path, part: Path, shapes: Mapping[str, tuple[int, ...]], used: int | None) -> None:
    """A tower's config.json, from its shapes: published EVA files come without one."""
    has_config = (part / "config.json").exists()
    config = None if has_config else eva_config(source, shapes, used)
    if config is not None:
        (part / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    elif used is not None:
        why = "it has a config.json of its own" if has_config else "it is no EVA tower"
        raise CheckpointError(f"{source}: blocks is {used}; {why}; allowed: no blocks")


def _publish(part: Path, out: Path) -> None:
    if out.suffix != ".safetensors":
        part.rename(out)
        return
    if not (part / SINGLE).is_file():
        raise CheckpointError(f"{out}: more than one shard; give a folder instead of a file")
    (part / SINGLE).rename(out)
