"""What a model will take in memory, from the headers of its files alone."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bt_model.assembly.model_file import find, read
from bt_model.checkpoints.load import shapes_of
from bt_model.checkpoints.metadata import temporal_config
from bt_model.generation.quantised import NF4_BLOCK

if TYPE_CHECKING:
    import torch

    from bt_model.types import Quantise

_SCALE_BYTES = 4  # float32
_BLOCKS = "layers."  # the decoder's blocks, whose matrices alone are quantised

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of one model's weights: tower with branch, language model, and what stands between them."""

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
    """What a model will take once it is loaded; no tensor is read.

    Raises:
        CheckpointError: a file that is missing or cannot be read.
        UnknownNameError: no such model.
    """
    path = find(name, weights_dir)
    model = read(path)

    def shapes(part: str, *places: str | None) -> Iterable[Shape]:
        return (s for place in places if place for s in shapes_of(path.parent / place, part).values())

    seen = [*shapes("vision", model.tower), *shapes("adapter", model.adapter)]
    said = None if model.adapter is None else temporal_config(path.parent / model.adapter)
    if said is not None and said.is_open:  # a tower of its own
        seen += shapes("vision", model.adapter)
    between = [*shapes("projector", model.projector), *shapes("qformer", model.qformer)]
    decoder = shapes_of(path.parent / model.llm, "lm") if model.llm else {}
    return MemoryEstimate(
        vision=_plain(seen, dtype), language=_decoder(decoder, dtype, quantise), bridge=_plain(between, dtype)
    )


def shown(num_bytes: int) -> str:
    """A figure for people."""
    return f"{num_bytes / 2**20:,.1f} MiB"


def _plain(shapes: Iterable[Shape], dtype: "torch.dtype") -> int:
    return sum(math.prod(shape) for shape in shapes) * dtype.itemsize


def _decoder(shapes: Mapping[str, Shape], dtype: "torch.dtype", quantise: "Quantise") -> int:
    matrices = [s for name, s in shapes.items() if _BLOCKS in name and len(s) == 2]  # noqa: PLR2004 - rows, columns
    if quantise == "none":
        return _plain(shapes.values(), dtype)
    num_weights = sum(math.prod(shape) for shape in matrices)
    if quantise == "int8":  # a byte each, and a scale for every row
        packed = num_weights + _SCALE_BYTES * sum(rows for rows, _ in matrices)
    else:  # half a byte each, and a scale for every block
        packed = num_weights // 2 + _SCALE_BYTES * (num_weights // NF4_BLOCK)
    return _plain(shapes.values(), dtype) - num_weights * dtype.itemsize + packed
