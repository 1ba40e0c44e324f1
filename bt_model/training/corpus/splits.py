"""Which scenes belong to which split, and seeded draws from a split.

A scene's split follows from its key alone, so twins are never parted and two splits never share a scene,
whatever the seeds. Every sixth cell of colour x shape x event (a Latin square for each event) is kept for
"test_combo": no training scene, clip or cue picture, combines these three.
"""

import hashlib
from collections.abc import Sequence
from itertools import combinations
from math import ceil, floor
from random import Random

from bt_model.training.corpus.scene import (
    BACKGROUNDS,
    CHANGES,
    COLOURS,
    DIRECTIONS,
    EXTENT,
    KINDS,
    PULSES,
    SHAPES,
    Change,
    Event,
    Item,
    Move,
    Order,
    Pulse,
    Scene,
    Still,
)

SPLITS = ("train", "val", "test", "test_combo")
GROUPS = ("horizontal", "vertical", "change", *("+".join(pair) for pair in combinations(PULSES, 2)))

_SHARES = {"train": range(80), "val": range(80, 90), "test": range(90, 100)}  # of 100
_SMALL = (14.0, 16.0)  # diameters, scene units
_LARGE = (22.0, 25.0)
_IN_PULSES = (14.0, 16.0)  # leaves room to jump, grow and sway
_MIN_PATH = 20.0
_MAX_PATH = 32.0
_EDGE = 1.0  # least distance of an item from the picture's edge
_ABSENT = (8, 20)  # of 32 frames: a few sampled ones always show the item, a few do not
_PULSE_WIDTHS = (12, 13, 14)
_PULSE_MARGINS = (0, 1, 2)
_JUMP_ROOM = 13.0
_SWAY_ROOM = 12.0


def is_held_out(scene: Scene) -> bool:
    """Tell whether the scene's colour, shape and event are a test-only combination; twins always agree."""
    if scene.event.group not in GROUPS:
        return False
    cell = list(COLOURS).index(scene.item.colour) + SHAPES.index(scene.item.shape)
    return (cell + GROUPS.index(scene.event.group)) % len(SHAPES) == 0


def split_of(scene: Scene) -> str:
    """Return the one split that a scene belongs to."""
    if is_held_out(scene):
        return "test_combo"
    digest = hashlib.sha256(scene.key.encode()).digest()
    share = int.from_bytes(digest[:8]) % 100
    return next(split for split, shares in _SHARES.items() if share in shares)


def scenes(split: str, count: int, seed: int, kinds: Sequence[str] = KINDS) -> list[Scene]:
    """Draw scenes of a split; event kinds take turns, everything else is random.

    Raises:
        ValueError: an unknown split or kind, or still scenes from "test_combo", which has none.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: one of {SPLITS}")
    if split == "test_combo":
        kinds = [kind for kind in kinds if kind != Still.kind]
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds {kinds!r}: some of {KINDS}")
    rng = Random(f"{split} {seed}")
    return [_draw_from(split, kinds[i % len(kinds)], rng) for i in range(count)]


def _draw_from(split: str, kind: str, rng: Random) -> Scene:
    while True:
        scene = draw(kind, rng)
        if split_of(scene) == split:
            return scene


def draw(kind: str, rng: Random) -> Scene:
    """Draw any scene of an event kind."""
    event: Event
    low, high = rng.choice((_SMALL, _LARGE))
    room_x = room_top = room_bottom = _EDGE
    match kind:
        case Move.kind:
            diameter = _between(rng, low, high)
            path = _between(rng, _MIN_PATH, min(_MAX_PATH, EXTENT - diameter - 2 * _EDGE))
            event = Move(rng.choice(DIRECTIONS), path)
            if event.group == "horizontal":
                room_x += path / 2
            else:
                room_top += path / 2
                room_bottom += path / 2
        case Change.kind:
            diameter = _between(rng, low, high)
            event = Change(rng.choice(CHANGES), rng.randint(*_ABSENT))
        case Order.kind:
            diameter = _between(rng, *_IN_PULSES)
            event = _draw_order(rng)
            room_x += _SWAY_ROOM
            room_top += _JUMP_ROOM
            room_bottom += diameter / 2
        case _:
            diameter = _between(rng, low, high)
            event = Still()
    radius = diameter / 2
    x = _between(rng, radius + room_x, EXTENT - radius - room_x)
    y = _between(rng, radius + room_top, EXTENT - radius - room_bottom)
    item = Item(rng.choice(SHAPES), rng.choice(list(COLOURS)), diameter, x, y)
    return Scene(item, rng.choice(list(BACKGROUNDS)), event)


def _draw_order(rng: Random) -> Order:
    first, second = (
        Pulse(name, rng.choice(_PULSE_MARGINS), rng.choice(_PULSE_WIDTHS)) for name in rng.sample(PULSES, 2)
    )
    return Order(first, second)


def _between(rng: Random, low: float, high: float) -> float:
    """Draw a length in quarter units, so that scenes read well as text and keys are exact."""
    return rng.randint(ceil(4 * low), floor(4 * high)) / 4
