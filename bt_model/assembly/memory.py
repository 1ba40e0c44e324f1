"""Memory that a model will need, estimated from the headers of its files alone."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bt_model.assembly.catalog import find
from bt_model.assembly.load import open_parts
from bt_model.assembly.model_file import read_model_file
from bt_model.assembly.towers import vision_config
from bt_model.checkpoints.layouts.key_map import Shape
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.generation.quantised import NF4_BLOCK
from bt_model.types import MAX_FRAMES

if TYPE_CHECKING:
    import torch

    from bt_model.checkpoints.weights import Checkpoint
    from bt_model.types import Quantise

_SCALE_BYTES = 4  # float32
_BLOCKS = "layers."  # the decoder's blocks, whose matrices alone are quantised


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of one model's weights: tower with branch, language model, and Q-Former with projector."""

    vision: int
    language: int
    bridge: int

    @property
    def total(self) -> int:
        return self.vision + self.language + self.bridge

    def __str__(self) -> str:
        parts = (
            f"vision {shown(self.vision)}, language model {shown(self.language)}, bridge {shown(self.bridge)}"
        )
        return f"{shown(self.total)} of weights ({parts})"


def memory_estimate(
    name: str, weights_dir: Path, dtype: "torch.dtype", quantise: "Quantise" = "none"
) -> MemoryEstimate:
    """The memory of a model once it is loaded; no tensor is read.

    Raises:
        CheckpointError: a file that is missing or cannot be read.
        UnknownNameError: no such model.
    """
    path = find(name, weights_dir)
    parts = open_parts(path.parent, read_model_file(path, weights_dir))

    def shapes(part: str, *held: "Checkpoint | None") -> list[Shape]:
        return [shape for each in held if each is not None for shape in each.shapes(part).values()]

    adapter = parts.adapter
    has_own_tower = adapter is not None and adapter.temporal is not None and adapter.temporal.is_open
    vision = shapes("adapter", adapter) + shapes("vision", parts.tower, adapter if has_own_tower else None)
    bridge = shapes("projector", parts.projector) + shapes("qformer", parts.qformer)
    decoder = {} if parts.llm is None else parts.llm.shapes("lm")
    return MemoryEstimate(
        _plain(vision, dtype), decoder_bytes(decoder, dtype, quantise), _plain(bridge, dtype)
    )


def adapter_bytes(path: Path, adapter: str, dtype: "torch.dtype") -> int:
    """What another adapter of a model's file takes beside the model, its own tower included if it has one.

    Raises:
        CheckpointError: a file that is missing or cannot be read.
    """
    name = read_model_file(path).adapters[adapter]
    if name is None:
        return 0
    checkpoint = open_checkpoint(path.parent / name)
    is_open = checkpoint.temporal is not None and checkpoint.temporal.is_open
    parts = ("adapter", "vision") if is_open else ("adapter",)
    return sum(_plain(checkpoint.shapes(part).values(), dtype) for part in parts)


def encode_bytes(path: Path, dtype: "torch.dtype") -> int:
    """Activations of the largest clip that a model takes, at their peak in one layer of its tower.

    Raises:
        CheckpointError: a file that is missing or cannot be read.
    """
    model = read_model_file(path)
    tower = open_checkpoint(path.parent / model.tower, is_listing=True)
    vision = vision_config(tower.path, tower.required_config())
    # states before and after, queries, keys, values and their result, and the two layers of the feed-forward
    widths = 6 * vision.width + 2 * vision.mlp_width
    return MAX_FRAMES * (vision.num_patches + 1) * widths * dtype.itemsize


def shown(num_bytes: int) -> str:
    """A number of bytes as text."""
    return f"{num_bytes / 2**20:,.1f} MiB"


def _plain(shapes: Iterable[Shape], dtype: "torch.dtype") -> int:
    return sum(math.prod(shape) for shape in shapes) * dtype.itemsize


def decoder_bytes(shapes: Mapping[str, Shape], dtype: "torch.dtype", quantise: "Quantise") -> int:
    """Of a decoder's tensors by their names."""
    matrices = [s for name, s in shapes.items() if _BLOCKS in name and len(s) == 2]  # noqa: PLR2004 - rows, columns
    if quantise == "none":
        return _plain(shapes.values(), dtype)
    num_weights = sum(math.prod(shape) for shape in matrices)
    if quantise == "int8":  # a byte each, and a scale for every row
        packed = num_weights + _SCALE_BYTES * sum(rows for rows, _ in matrices)
    else:  # half a byte each, and a scale for every block
        packed = num_weights // 2 + _SCALE_BYTES * (num_weights // NF4_BLOCK)
    return _plain(shapes.values(), dtype) - num_weights * dtype.itemsize + packed
