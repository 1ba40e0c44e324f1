"""The rows of a step: one for each position of its chunks, one chunk after another."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bt_model.generation.chunk import Chunk
from bt_model.generation.rope import Rope


@dataclass(frozen=True, slots=True)
class StepRows:
    """What the layers need to know of N rows, R of which are wanted."""

    rope: Rope  # of their positions, (N, D)
    wanted: Tensor  # (R,), those that are the last of their sequence

    @classmethod
    def of(cls, chunks: Sequence[Chunk], rope: Rope) -> "StepRows":
        """`rope` holds the tables of all positions."""
        device = rope.cos.device
        positions = torch.tensor([at for chunk in chunks for at in range(chunk.start, chunk.end)])
        ends = torch.tensor([chunk.count for chunk in chunks]).cumsum(0) - 1
        wanted = ends[torch.tensor([chunk.is_last for chunk in chunks])]
        return cls(rope.at(positions.to(device, non_blocking=True)), wanted.to(device, non_blocking=True))
