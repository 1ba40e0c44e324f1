"""Which clip each sample of a run is, and its random numbers, from the run's seed and sample index alone.

The sample index counts through all epochs and ranks, so the same run on another number of ranks, or resumed,
draws the same numbers. A mask says which patches the branch sees: a tube, the same in all frames, or the
published layout. B samples, T frames, P patches, M visible patches.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from bt_model.errors import InvalidValueError

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.training.pretrain.settings import MaskSettings

_ORDER, _CLIP, _MASK, _STEP = range(4)  # independent streams of one seed


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """The sample indices of each step and rank; an epoch's incomplete last batch is dropped.

    Raises:
        InvalidValueError: fewer clips than one batch takes.
    """

    num_clips: int
    batch: int
    accumulate: int
    seed: int
    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        whole = self.accumulate * self.size
        if self.batch % whole or self.num_clips < self.batch:
            allowed = (
                f"a multiple of {whole} (accumulate x processes), up to the {self.num_clips} clips there are"
            )
            raise InvalidValueError(
                f"optimiser.batch is {self.batch}; allowed: {allowed}", param="optimiser.batch"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.num_clips // self.batch

    @property
    def clips_per_part(self) -> int:
        """This rank's clips in one part of a step."""
        return self.batch // self.accumulate // self.size

    def samples(self, step: int, part: int) -> range:
        """Sample indices of this rank in a part of a step; a part has consecutive indices over all ranks."""
        epoch, within = divmod(step, self.steps_per_epoch)
        per_part = self.batch // self.accumulate
        first = (
            epoch * self.num_clips + within * self.batch + part * per_part + self.rank * self.clips_per_part
        )
        return range(first, first + self.clips_per_part)

    def step(self, sample: int) -> int:
        """The step of a sample index."""
        epoch, within = divmod(sample, self.num_clips)
        return epoch * self.steps_per_epoch + within // self.batch

    def clip(self, sample: int, attempt: int = 0) -> int:
        """The clip of a sample index; `attempt` counts broken clips and selects another one."""
        epoch, within = divmod(sample, self.num_clips)
        if attempt:
            return int(default_rng([self.seed, _CLIP, sample, attempt]).integers(self.num_clips))
        return int(_permutation(self.num_clips, self.seed, epoch)[within])


@lru_cache(maxsize=2)
def _permutation(num_clips: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return default_rng([seed, _ORDER, epoch]).permutation(num_clips)


def clip_draws(seed: int, sample: int) -> Generator:
    """Random generator for a sample's frames, box and caption."""
    return default_rng([seed, _CLIP, sample])


def step_seed(seed: int, step: int, part: int, rank: int) -> int:
    """Seed of the random numbers of a forward pass (stochastic depth)."""
    return int(default_rng([seed, _STEP, step, part, rank]).integers(2**63 - 1))


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
    orders = [default_rng([seed, _MASK, index]).permutation(num_patches)[:num_visible] for index in samples]
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
