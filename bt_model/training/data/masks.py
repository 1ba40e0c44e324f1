"""Which patches the branch sees: a tube, the same in all frames (paper section 3.2), or the published layout.

A mask is drawn from the run's seed and the sample's index alone (data/sampling.py).

B samples, T frames, P patches, M visible patches.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.random import default_rng

from bt_model.training.data.sampling import MASKS

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.training.pretrain.config import MaskSettings


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of some samples.

    `visible` is BTAdapter's, (B, M) or (B, T, M), None without a mask; `pairs` (B, T, M) are the trunk tokens
    t * P + p that the branch's are compared with.
    """

    visible: "Tensor | None"
    pairs: "Tensor"

    def to(self, device: torch.device) -> "Masks":
        """The same masks on a device."""
        visible = None if self.visible is None else self.visible.to(device)
        return Masks(visible, self.pairs.to(device))


def mask_at(mask: "MaskSettings", step: int, num_steps: int) -> "MaskSettings":
    """The mask of a step: the last of a run may hide nothing."""
    return mask if step < round((1 - mask.unmasked) * num_steps) else mask.model_copy(update={"rate": 0.0})


def draw_masks(mask: "MaskSettings", seed: int, samples: range, num_frames: int, num_patches: int) -> Masks:
    """A mask for each sample index, in the layout that is wanted."""
    num_visible = num_patches - int(mask.rate * num_patches)
    orders = [default_rng([seed, MASKS, index]).permutation(num_patches)[:num_visible] for index in samples]
    shown = torch.from_numpy(np.sort(np.stack(orders), axis=1))  # (B, M)
    frames = torch.arange(num_frames)[:, None] * num_patches
    if not mask.rate:
        return Masks(None, frames + shown[:, None])
    if mask.layout == "tube":
        return Masks(shown, frames + shown[:, None])
    hidden = torch.ones(len(shown), num_patches, dtype=torch.bool).scatter(1, shown, value=False)
    return published_layout(hidden.repeat(1, num_frames), num_frames)


def published_layout(hidden: "Tensor", num_frames: int) -> Masks:
    """The masks of the published code (docs/published-models.md, "Pre-training masks"), from what it draws.

    `hidden` (B, P T) is read patch by patch, the frame fastest, though it was drawn frame by frame, so what
    survives is no tube. `visible` says which token t * P + p the branch reads at each position, (B, T, M);
    what the alignment loss compares it with is the same entry, read frame by frame.
    """
    num_patches = hidden.shape[1] // num_frames
    shown = torch.stack([(~row).nonzero()[:, 0] for row in hidden])
    slots = shown.unflatten(1, (-1, num_frames)).transpose(1, 2)  # T survivors make a temporal group
    return Masks(slots % num_frames * num_patches + slots // num_frames, slots)
