"""Which scenes belong to which split, and seeded draws from a split.

A scene's split follows from its key alone, so twins are never parted and two splits never share a scene,
whatever the seeds. Every sixth cell of colour x shape x event (a Latin square for each event) is only in
"test_combo": no training scene, clip or cue picture, has an actor that combines these three.
"""

import hashlib
from collections.abc import Sequence
from itertools import combinations
from random import Random

from lab.shapes import events
from lab.shapes.draws import Variety, draw_scene
from lab.shapes.scene import COLOURS, SHAPES, Scene

SPLITS = ("train", "val", "test", "test_combo")
GROUPS = (
    "horizontal",
    "vertical",
    events.Change.kind,
    *("+".join(pair) for pair in combinations(events.PULSES, 2)),
    "diagonal",
    *(each.kind for each in (events.Pace, events.Resize, events.Recolour, events.Blink, events.Rotate)),
)

_SHARES = {"train": range(80), "val": range(80, 90), "test": range(90, 100)}  # of 100


def is_held_out(scene: Scene) -> bool:
    """Tell whether the actor's colour, shape and event are a test-only combination; twins always agree.

    Of an actor that changes its colour, either colour decides: about a third of these scenes are held out.
    """
    event = scene.event
    if isinstance(event, events.Still):
        return False
    colours = [scene.actor.colour, *([event.after] if isinstance(event, events.Recolour) else [])]
    row = SHAPES.index(scene.actor.shape) + GROUPS.index(event.group)
    return any((list(COLOURS).index(colour) + row) % len(SHAPES) == 0 for colour in colours)


def split_of(scene: Scene) -> str:
    """Return the one split that a scene belongs to."""
    if is_held_out(scene):
        return "test_combo"
    digest = hashlib.sha256(scene.key.encode()).digest()
    share = int.from_bytes(digest[:8]) % 100
    return next(split for split, shares in _SHARES.items() if share in shares)


def scenes(
    split: str,
    count: int,
    seed: int,
    kinds: Sequence[str] = events.KINDS,
    *,
    most_items: int = 1,
    textures: bool = False,
    diagonals: bool = False,
) -> list[Scene]:
    """Draw scenes of a split; event kinds take turns, everything else is random.

    Args:
        split: one of SPLITS.
        count: how many scenes.
        seed: equal seeds draw equal scenes.
        kinds: kinds of events; a kind that stands here twice is drawn twice as often.
        most_items: up to how many items a scene has, 1 to 3, each number equally often.
        textures: whether backgrounds may have patterns.
        diagonals: whether items may move in eight directions instead of four.

    Raises:
        ValueError: an unknown split or kind, a wrong number of items, or only still scenes from "test_combo",
            which has none.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: one of {SPLITS}")
    if split == "test_combo":
        kinds = [kind for kind in kinds if kind != events.Still.kind]
    if not kinds or not set(kinds) <= set(events.KINDS):
        raise ValueError(f"kinds {kinds!r}: some of {events.KINDS}, and some that move for split {split!r}")
    variety = Variety(most_items, textures, diagonals)
    rng = Random(f"{split} {seed}")
    drawn: list[Scene] = []
    while len(drawn) < count:
        scene = draw_scene(kinds[len(drawn) % len(kinds)], rng, variety)
        if split_of(scene) == split:
            drawn.append(scene)
    return drawn
