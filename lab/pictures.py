"""Single pictures with captions, which train the towers and the image chat model.

B pictures, H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import torch

from bt_model.video.transform import normalise
from lab.clips import SceneBatch
from lab.shapes.captions import caption
from lab.shapes.cues import paint_pictures
from lab.shapes.draws import MOST_ITEMS
from lab.shapes.events import Still
from lab.shapes.scene import SHAPES, Scene
from lab.shapes.splits import scenes, split_of

if TYPE_CHECKING:
    from torch import Tensor

# by how hard they are to learn
EVENT_SHARES = (
    "move", "order", "pace", "change", "resize", "count",
    "move", "order", "pace", "recolour", "rotate", "still",
)  # fmt: skip
TWIN_SHARE = 0.5
STATIC_SHARE = 0.3  # of the captions leave the event out, so that such captions stay in the domain


def varied_scenes(split: str, count: int, rng: Random, kinds: tuple[str, ...] = EVENT_SHARES) -> list[Scene]:
    """Half of the scenes hold one item on a plain background, half up to three, patterns and diagonals."""
    first, second = rng.getrandbits(48), rng.getrandbits(48)
    simple = scenes(split, count // 2, seed=first, kinds=kinds)
    rich = scenes(
        split, count - len(simple), seed=second, kinds=kinds[len(simple) % len(kinds) :] + kinds,
        most_items=MOST_ITEMS, textures=True, diagonals=True,
    )  # fmt: skip
    return [*simple, *rich]


def with_partners(drawn: Sequence[Scene], rng: Random) -> list[Scene]:
    """Scenes and, in the second half, a partner of each that differs in one thing: event order or shape."""
    return [*drawn, *(_partner(scene, rng) for scene in drawn)]


def _partner(scene: Scene, rng: Random) -> Scene:
    if not isinstance(scene.event, Still) and rng.random() < TWIN_SHARE:
        return scene.twin()
    taken = {item.shape for item in scene.items}
    free = [shape for shape in rng.sample(SHAPES, len(SHAPES)) if shape not in taken]
    others = [replace(scene, items=(replace(scene.actor, shape=shape), *scene.items[1:])) for shape in free]
    allowed = (other for other in others if split_of(other) == "train")
    return next(allowed, scene.twin())


def captions_of(drawn: Sequence[Scene], rng: Random, *, static_share: float = STATIC_SHARE) -> list[str]:
    """A caption for each scene; its partner's has the same words but for what differs."""
    state, half = rng.getrandbits(64), len(drawn) // 2
    words = [Random(f"{state} {number % half}") for number in range(len(drawn))]
    return [caption(scene, own, static_share=static_share) for scene, own in zip(drawn, words, strict=True)]


def draw_pictures(batch: int, rng: Random, side: int) -> SceneBatch:
    """Training scenes as single pictures, each a clip of one frame, (B, 1, side, side, 3) uint8."""
    drawn = varied_scenes("train", batch, rng)
    return SceneBatch(drawn, torch.from_numpy(paint_pictures(drawn, side))[:, None])


def pictures(drawn: Sequence[Scene], side: int) -> "Tensor":
    """Scenes as single pictures with their cues: (B, 3, side, side) normalised."""
    return normalise(torch.from_numpy(paint_pictures(drawn, side)))
