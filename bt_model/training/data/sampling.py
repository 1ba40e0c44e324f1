"""Which sample stands where in a run, and what is drawn for it, from the run's seed and its place alone.

A place counts the samples of all epochs, across ranks: the same run on another number of ranks, or resumed,
draws the same. Decode children import this, so it does without torch. T frames, H height, W width.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image

from bt_model.errors import InvalidValueError

_ORDER, _CLIP, MASKS, _STEP = range(4)  # independent streams of one seed


@dataclass(frozen=True, slots=True)
class Order:
    """Which sample of which epoch stands in each slot of each step; what is left of an epoch is not used.

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

    def places(self, step: int, part: int) -> range:
        """The places of this rank's samples in a part of a step, whole parts being the same for all ranks."""
        epoch, within = divmod(step, self.steps_per_epoch)
        per_part = self.batch // self.accumulate
        first = (
            epoch * self.num_clips + within * self.batch + part * per_part + self.rank * self.clips_per_part
        )
        return range(first, first + self.clips_per_part)

    def step(self, place: int) -> int:
        """The step that a place's sample is in."""
        epoch, within = divmod(place, self.num_clips)
        return epoch * self.steps_per_epoch + within // self.batch

    def clip(self, place: int, attempt: int = 0) -> int:
        """The clip at a place; after a broken one, any other."""
        epoch, within = divmod(place, self.num_clips)
        if attempt:
            return int(default_rng([self.seed, _CLIP, place, attempt]).integers(self.num_clips))
        return int(_permutation(self.num_clips, self.seed, epoch)[within])


@lru_cache(maxsize=2)
def _permutation(num_clips: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return default_rng([seed, _ORDER, epoch]).permutation(num_clips)


def clip_draws(seed: int, place: int) -> Generator:
    """Source of a sample's frames, box and caption."""
    return default_rng([seed, _CLIP, place])


def step_seed(seed: int, step: int, part: int, rank: int) -> int:
    """Seed of what a forward pass draws on its way, stochastic depth."""
    return int(default_rng([seed, _STEP, step, part, rank]).integers(2**63 - 1))


_TRIES = 10


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels of a frame."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Crop:
    """A random box's share of the area and its width to height (training spec 1.1)."""

    min_area: float = 0.08
    max_area: float = 1.0
    min_aspect: float = 3 / 4
    max_aspect: float = 4 / 3


def random_box(rng: Random, height: int, width: int, crop: Crop) -> Box:
    """A box of uniform area and log-uniform aspect, anywhere; after ten that do not fit, the central one."""
    for _ in range(_TRIES):
        area = height * width * rng.uniform(crop.min_area, crop.max_area)
        aspect = math.exp(rng.uniform(math.log(crop.min_aspect), math.log(crop.max_aspect)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return Box(rng.randint(0, height - h), rng.randint(0, width - w), h, w)
    aspect = min(max(width / height, crop.min_aspect), crop.max_aspect)
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def centre_box(height: int, width: int, side: int) -> Box:
    """A square of that side, or the largest one, in the middle."""
    side = min(side, height, width)
    return Box((height - side) // 2, (width - side) // 2, side, side)


def cut(pixels: NDArray[np.uint8], box: Box, side: int) -> NDArray[np.uint8]:
    """Every frame's box, scaled (bilinear) to a square. (T, H, W, 3) -> (T, side, side, 3)."""
    cropped = pixels[:, box.top : box.top + box.height, box.left : box.left + box.width]
    if cropped.shape[1:3] == (side, side):
        return np.ascontiguousarray(cropped)
    return np.stack([_scaled(frame, side) for frame in cropped])


def _scaled(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    picture = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
