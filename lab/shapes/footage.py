"""A clip as a phone or a download would have it: more frames, an unusual size, noise, sometimes turned.

F frames, H and W pixels, S side of the painted square.
"""

import hashlib
from dataclasses import dataclass
from random import Random

import numpy as np

from lab.shapes.events import NUM_FRAMES
from lab.shapes.paint import Pixels, paint_clip
from lab.shapes.scene import FPS, Scene

_RATE = 30
_NUM_FRAMES = NUM_FRAMES * _RATE // FPS
_SCALES = (0.75, 1.5)  # of the side
_WIDEST = 1.8  # times the shorter side: a little more than 16 : 9
_ROTATIONS = (0, 0, 0, 90, 180, 270)
_NOISE = 5.0  # levels of 255, one standard deviation


@dataclass(frozen=True, slots=True)
class Footage:
    """How a scene is filmed, sizes as shown; `seed` decides the noise."""

    painted_side: int
    width: int
    height: int
    rotation: int
    num_frames: int
    fps: int
    seed: int


def footage_of(scene: Scene, side: int) -> Footage:
    """Draw a size, a turn and noise that twins share. `side` is what the painted square's side is near to."""
    seed = int.from_bytes(hashlib.sha256(f"footage {scene.key}".encode()).digest()[:6])
    rng = Random(seed)
    shorter = round(side * rng.uniform(*_SCALES))
    longer = round(shorter * rng.uniform(1.0, _WIDEST))
    width, height = rng.choice(((shorter, longer), (longer, shorter)))
    return Footage(shorter, width, height, rng.choice(_ROTATIONS), _NUM_FRAMES, _RATE, seed)


def film(scene: Scene, footage: Footage) -> Pixels:
    """Paint the scene in the middle of its frames, with noise, as stored before a player turns them.

    Returns:
        (F,H,W,3), with one more row or column where 4:2:0 colour needs an even number.
    """
    square = paint_clip(scene, footage.painted_side, footage.num_frames)
    across, down = (size - footage.painted_side for size in (footage.width, footage.height))
    sides = ((down // 2, down - down // 2), (across // 2, across - across // 2))
    # items stand away from the border, so what is repeated is background
    shown = np.pad(square, ((0, 0), *sides, (0, 0)), mode="edge")
    stored = np.rot90(shown, -footage.rotation // 90, axes=(1, 2))
    odd = ((0, size % 2) for size in stored.shape[1:3])
    stored = np.pad(stored, ((0, 0), *odd, (0, 0)), mode="edge")
    noise = np.random.default_rng(footage.seed).normal(0, _NOISE, stored.shape)
    return np.clip(np.rint(stored + noise), 0, 255).astype(np.uint8)
