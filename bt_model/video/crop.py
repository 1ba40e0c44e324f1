"""The part of a clip that training looks at: one box for all its frames, scaled to a square.

T frames, H height, W width.
"""

import math
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TRIES = 10
_Level = TypeVar("_Level", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Box:
    """A crop box in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Crop:
    """A random box's share of the area and its width to height."""

    min_area: float = 0.08
    max_area: float = 1.0
    min_aspect: float = 3 / 4
    max_aspect: float = 4 / 3


@dataclass(frozen=True, slots=True)
class Cutout:
    """A square of `side` out of whole frames: the middle, or with a seed a random box scaled to it."""

    side: int
    seed: int | None = None
    crop: Crop = field(default_factory=Crop)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(T, H, W, 3) -> (T, side, side, 3)."""
        height, width = pixels.shape[1:3]
        if self.seed is None:
            return scaled(centre(pixels, min(self.side, height, width)), self.side)
        box = random_box(Random(self.seed), height, width, self.crop)
        part = pixels[:, box.top : box.top + box.height, box.left : box.left + box.width]
        return scaled(part, self.side)


def random_box(rng: Random, height: int, width: int, crop: Crop) -> Box:
    """A random box of uniform area and log-uniform aspect; after ten that do not fit, the central box."""
    for _ in range(_TRIES):
        area = height * width * rng.uniform(crop.min_area, crop.max_area)
        aspect = math.exp(rng.uniform(math.log(crop.min_aspect), math.log(crop.max_aspect)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return Box(rng.randint(0, height - h), rng.randint(0, width - w), h, w)
    aspect = min(max(width / height, crop.min_aspect), crop.max_aspect)
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def centre(pixels: NDArray[_Level], side: int) -> NDArray[_Level]:
    """(..., H, W, 3) -> the middle (..., side, side, 3); an odd margin is larger right and below."""
    top, left = (pixels.shape[-3] - side) // 2, (pixels.shape[-2] - side) // 2
    return pixels[..., top : top + side, left : left + side, :]


def scaled(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Every frame scaled (bilinear) to a square. (T, H, W, 3) -> (T, side, side, 3)."""
    if pixels.shape[1:3] == (side, side):
        return np.ascontiguousarray(pixels)
    pictures = (Image.fromarray(np.ascontiguousarray(frame)) for frame in pixels)
    return np.stack([np.asarray(each.resize((side, side), Image.Resampling.BILINEAR)) for each in pictures])
