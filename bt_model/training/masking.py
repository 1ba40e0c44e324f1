"""Tube masks: the same patches are hidden in all frames of a clip (training spec 1.1, paper section 3.2).

B clips, P patches, M visible patches.
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


def tube_mask(batch: int, num_patches: int, rate: float, generator: "Generator") -> "Tensor":
    """Numbers of the visible patches, sorted, drawn for each clip: (B, M) int64, M = P - int(rate * P)."""
    num_visible = num_patches - int(rate * num_patches)
    order = torch.rand(batch, num_patches, generator=generator).argsort(dim=1)
    return order[:, :num_visible].sort(dim=1).values
