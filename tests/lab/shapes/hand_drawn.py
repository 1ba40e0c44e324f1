"""Scenes of every kind without the rules of splits: one to three items, any texture, all directions.

Also what tests read back: the scene beside a clip, the words of a text.
"""

import json
import re
from pathlib import Path
from random import Random
from typing import Any, get_args

from lab.shapes.events import (
    CHANGES,
    DIAGONALS,
    DIRECTIONS,
    KINDS,
    PACES,
    PULSES,
    RESIZES,
    TURNS,
    Blink,
    Change,
    Event,
    Move,
    Pace,
    Pulse,
    PulsePair,
    Recolour,
    Resize,
    Rotate,
    Still,
)
from lab.shapes.scene import BACKGROUNDS, COLOURS, SHAPES, TEXTURES, Scene, SceneItem

BEATS = ("11100111", "11010111", "10101011", "01010101")  # one to four times gone


def drawn(count: int, seed: int, most_items: int = 3) -> list[Scene]:
    """Scenes whose kinds take turns."""
    rng = Random(seed)
    return [_scene(KINDS[n % len(KINDS)], rng, most_items) for n in range(count)]


def _scene(kind: str, rng: Random, most_items: int) -> Scene:
    colours = rng.sample(list(COLOURS), 4)
    num_items = rng.randint(1, most_items)
    items = tuple(
        SceneItem(shape, colour, rng.choice((12.0, 14.0, 24.0)), rng.uniform(8, 40), rng.uniform(8, 40))
        for shape, colour in zip(rng.sample(SHAPES, num_items), colours, strict=False)
    )
    return Scene(items, rng.choice(list(BACKGROUNDS)), _event(kind, rng, colours[-1]), rng.choice(TEXTURES))


def _event(kind: str, rng: Random, after: str) -> Event:
    way = rng.choice(DIRECTIONS + DIAGONALS)
    first, second = (Pulse(name, 1, 13) for name in rng.sample(PULSES, 2))
    beats, other = rng.sample(BEATS, 2)
    made: dict[str, Event] = {
        "still": Still(),
        "move": Move(way, 20.0),
        "pace": Pace(rng.choice(PACES), way, 20.0),
        "change": Change(rng.choice(CHANGES), 12),
        "resize": Resize(rng.choice(RESIZES), 0.5),
        "recolour": Recolour(after, rng.randint(8, 24)),
        "order": PulsePair(first, second),
        "count": Blink(beats, other),
        "rotate": Rotate(rng.choice(TURNS), 90.0, 10.0),
    }
    return made[kind]


def read_scene(clip: Path) -> Scene:
    """The scene in the file beside a clip."""
    values = json.loads(clip.with_suffix(".json").read_text())["scene"]
    items = tuple(SceneItem(**item) for item in values["items"])
    return Scene(items, values["background"], _read_event(**values["event"]), values["texture"])


def _read_event(kind: str, **values: Any) -> Event:
    if kind == PulsePair.kind:
        return PulsePair(*(Pulse(**values[name]) for name in ("first", "second")))
    (event,) = (event for event in get_args(Event) if event.kind == kind)
    return event(**values)


def split_words(text: str) -> list[str]:
    """The words and punctuation marks of a text, in lower case."""
    return re.findall(r"[a-z]+|[^\sa-z]", text.lower())
