"""Scenes of every kind without the rules of splits: one to three items, any texture, all directions."""

from random import Random

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
    Order,
    Pace,
    Pulse,
    Recolour,
    Resize,
    Rotate,
    Still,
)
from lab.shapes.scene import BACKGROUNDS, COLOURS, SHAPES, TEXTURES, Item, Scene

BEATS = ("11100111", "11010111", "10101011", "01010101")  # one to four times gone


def drawn(count: int, seed: int, most_items: int = 3) -> list[Scene]:
    """Scenes whose kinds take turns."""
    rng = Random(seed)
    return [_scene(KINDS[n % len(KINDS)], rng, most_items) for n in range(count)]


def _scene(kind: str, rng: Random, most_items: int) -> Scene:
    colours = rng.sample(list(COLOURS), 4)
    num_items = rng.randint(1, most_items)
    items = tuple(
        Item(shape, colour, rng.choice((12.0, 14.0, 24.0)), rng.uniform(8, 40), rng.uniform(8, 40))
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
        "order": Order(first, second),
        "count": Blink(beats, other),
        "rotate": Rotate(rng.choice(TURNS), 90.0, 10.0),
    }
    return made[kind]
