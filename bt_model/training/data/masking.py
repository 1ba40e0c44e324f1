"""Which patches the branch sees: a tube, the same in all frames (paper section 3.2), or the published layout.

B clips, P patches, M visible patches.
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


def generator_for(seed: int, step: int) -> "Generator":
    """The random source of one step: a function of the two numbers only."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def tube_mask(batch: int, num_patches: int, rate: float, generator: "Generator") -> "Tensor":
    """Numbers of the visible patches, sorted, drawn for each clip: (B, M) int64, M = P - int(rate * P)."""
    num_visible = num_patches - int(rate * num_patches)
    order = torch.rand(batch, num_patches, generator=generator).argsort(dim=1)
    return order[:, :num_visible].sort(dim=1).values


def published_places(hidden: "Tensor", num_frames: int) -> "tuple[Tensor, Tensor]":
    """The masking of the published code, from the mask that it hands to the branch (reference-behaviour 6.2).

    `hidden` (B, P T) is read patch by patch, the frame fastest, though it was drawn frame by frame, so what
    survives is no tube. Returns which token t * P + p stands in each place of the branch, (B, T, M), and
    which token the alignment loss compares it with, (B, T, M): the same entry, read frame by frame.
    """
    num_patches = hidden.shape[1] // num_frames
    kept = torch.stack([(~row).nonzero()[:, 0] for row in hidden])
    slots = kept.unflatten(1, (-1, num_frames)).transpose(1, 2)  # T survivors make a temporal group
    return slots % num_frames * num_patches + slots // num_frames, slots


def first_unmasked(share: float, num_steps: int) -> int:
    """The first of the steps that hide nothing, a share of all at the end of a run."""
    return round((1 - share) * num_steps)
