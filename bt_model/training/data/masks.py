"""The masks of a run's samples, drawn from the run's seed and a sample's place alone (data/sampling.py).

B samples, T frames, P patches, M visible patches.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.random import default_rng

from bt_model.training.data.masking import published_places
from bt_model.training.data.sampling import MASKS

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.training.pretrain.config import MaskSettings


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of some samples: BTAdapter's `visible`, None without any, and `pairs` (B, T, M)."""

    visible: "Tensor | None"
    pairs: "Tensor"


def draw_masks(mask: "MaskSettings", seed: int, places: range, num_frames: int, num_patches: int) -> Masks:
    """A mask for each place, in the layout that is wanted (training/data/masking.py)."""
    num_visible = num_patches - int(mask.rate * num_patches)
    orders = [default_rng([seed, MASKS, place]).permutation(num_patches)[:num_visible] for place in places]
    kept = torch.from_numpy(np.sort(np.stack(orders), axis=1))  # (B, M)
    frames = torch.arange(num_frames)[:, None] * num_patches
    if not mask.rate:
        return Masks(None, frames + kept[:, None])
    if mask.layout == "tube":
        return Masks(kept, frames + kept[:, None])
    hidden = torch.ones(len(kept), num_patches, dtype=torch.bool).scatter(1, kept, value=False)
    return Masks(*published_places(hidden.repeat(1, num_frames), num_frames))
