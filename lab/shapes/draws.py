"""Random scenes of each kind of event. Lengths in scene units, times in frames, angles in degrees."""

from dataclasses import dataclass
from itertools import product
from math import ceil, floor
from random import Random

from lab.shapes.events import (
    CHANGES,
    COUNTS,
    DIAGONALS,
    DIRECTIONS,
    NUM_BEATS,
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
from lab.shapes.rooms import Rectangle, Room, box_of, room_of
from lab.shapes.scene import BACKGROUNDS, COLOURS, EXTENT, SHAPES, TEXTURES, Scene, SceneItem

MOST_ITEMS = 3
TURNING = ("square", "triangle", "cross", "bar")  # a turn of the others cannot be seen

_SMALL = (14.0, 16.0)  # diameters
_LARGE = (22.0, 25.0)
_DIAMETERS = {
    Pace.kind: (_SMALL,),  # leaves room for a path long enough to see an acceleration
    PulsePair.kind: (_SMALL,),  # leaves room to jump, grow and sway
    Resize.kind: ((15.0, 18.0),),  # at the middle of the clip
    Rotate.kind: (_SMALL, (19.5, 21.5)),  # leaves room for the corners
}
_CROWDED = (10.5, 12.5)  # in scenes of several items
_CROWDED_TURNING = (12.0, 13.5)  # of what grows or turns; below that neither is clear
_MOVE_PATHS = (20.0, 32.0)
_PACE_PATHS = (26.0, 34.0)
_CROWDED_PATH = 28.0  # the longest
_EDGE = 1.0  # least distance of an item from the picture's edge
_GAP = 2.0  # least distance of an item from another's room
_TRIES = 20  # places for a bystander, before the whole scene is drawn again
_ABSENT = (8, 20)  # of 32 frames: a few sampled ones always show the item, a few do not
_RECOLOURED_AT = (10, 22)  # a few sampled frames show either colour, about half of them each
_PULSE_WIDTHS = (12, 13, 14)
_PULSE_MARGINS = (0, 1, 2)
_SHARES = (0.7, 0.8, 0.9, 1.0)  # of the middle diameter: the larger end is 2 to 3 times the smaller one
_TURN_DEGREES = (60, 110)  # under 45 between two of four sampled frames: the way of a square's turn is clear
_ANGLE_STEP = 5
_BEATS_ON = NUM_BEATS // 2  # whatever the count, so that how long it is there tells nothing
_ONE_CHANGE = ("0" * _BEATS_ON + "1" * _BEATS_ON, "1" * _BEATS_ON + "0" * _BEATS_ON)


def _patterns(count: int) -> tuple[str, ...]:
    """All ways to be gone `count` times and there for half of the beats, but what looks like a change."""
    every = ("".join(beats) for beats in product("01", repeat=NUM_BEATS))
    fair = [beats for beats in every if beats.count("1") == _BEATS_ON and beats not in _ONE_CHANGE]
    return tuple(beats for beats in fair if Blink(beats, beats).count == count)


_BEATS = {count: _patterns(count) for count in COUNTS}


@dataclass(frozen=True, slots=True)
class Variety:
    """What scenes may hold beyond one item that moves along an axis on an even background."""

    most_items: int = 1
    textures: bool = False
    diagonals: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.most_items <= MOST_ITEMS:
            raise ValueError(f"most_items {self.most_items}: 1 to {MOST_ITEMS}")


def draw(kind: str, rng: Random, variety: Variety) -> Scene:
    """Draw any scene of an event kind; each number of items is equally likely."""
    count = rng.randint(1, variety.most_items)
    while True:
        scene = _try(kind, count, rng, variety)
        if scene is not None:
            return scene


def _try(kind: str, count: int, rng: Random, variety: Variety) -> Scene | None:
    """Draw a scene of `count` items, or none where no place is left for its bystanders."""
    shapes = [rng.choice(TURNING if kind == Rotate.kind else SHAPES)]
    shapes += rng.sample([shape for shape in SHAPES if shape not in shapes], count - 1)
    colour, after, *others = rng.sample(list(COLOURS), 2 + count - 1)
    diameter = _diameter(kind, rng, count > 1)
    directions = DIRECTIONS + DIAGONALS if variety.diagonals else DIRECTIONS
    longest = min(EXTENT - diameter - 2 * _EDGE, _CROWDED_PATH if count > 1 else EXTENT)
    event = _event(kind, rng, after, directions, longest)
    room = room_of(event, diameter)
    x, y = _place(room, rng)
    items = [SceneItem(shapes[0], colour, diameter, x, y)]
    taken = [room.at(x, y)]
    for shape, other in zip(shapes[1:], others, strict=True):
        item = _bystander(shape, other, taken, rng)
        if item is None:
            return None
        items.append(item)
        taken.append(box_of(item))
    texture = rng.choice(TEXTURES) if variety.textures else TEXTURES[0]
    return Scene(tuple(items), rng.choice(list(BACKGROUNDS)), event, texture)


def _event(kind: str, rng: Random, after: str, directions: tuple[str, ...], longest: float) -> Event:
    match kind:
        case Move.kind:
            event = Move(rng.choice(directions), _up_to(rng, _MOVE_PATHS, longest))
        case Pace.kind:
            event = Pace(rng.choice(PACES), rng.choice(directions), _up_to(rng, _PACE_PATHS, longest))
        case Change.kind:
            event = Change(rng.choice(CHANGES), rng.randint(*_ABSENT))
        case Resize.kind:
            event = Resize(rng.choice(RESIZES), rng.choice(_SHARES))
        case Recolour.kind:
            event = Recolour(after, rng.randint(*_RECOLOURED_AT))
        case Blink.kind:
            count, other = rng.sample(COUNTS, 2)
            event = Blink(rng.choice(_BEATS[count]), rng.choice(_BEATS[other]))
        case Rotate.kind:
            degrees = rng.randrange(*_TURN_DEGREES, _ANGLE_STEP)
            event = Rotate(rng.choice(TURNS), degrees, rng.randrange(0, 360, _ANGLE_STEP))
        case PulsePair.kind:
            first, second = (_pulse(name, rng) for name in rng.sample(PULSES, 2))
            event = PulsePair(first, second)
        case _:
            event = Still()
    return event


def _pulse(name: str, rng: Random) -> Pulse:
    return Pulse(name, rng.choice(_PULSE_MARGINS), rng.choice(_PULSE_WIDTHS))


def _diameter(kind: str, rng: Random, is_crowded: bool) -> float:
    if is_crowded:
        return _between(rng, *(_CROWDED_TURNING if kind in {Resize.kind, Rotate.kind} else _CROWDED))
    return _between(rng, *rng.choice(_DIAMETERS.get(kind, (_SMALL, _LARGE))))


def _place(room: Room, rng: Random) -> tuple[float, float]:
    x = _between(rng, room.left + _EDGE, EXTENT - room.right - _EDGE)
    y = _between(rng, room.top + _EDGE, EXTENT - room.bottom - _EDGE)
    return x, y


def _bystander(shape: str, colour: str, taken: list[Rectangle], rng: Random) -> SceneItem | None:
    diameter = _between(rng, *_CROWDED)
    room = room_of(Still(), diameter)
    for _ in range(_TRIES):
        item = SceneItem(shape, colour, diameter, *_place(room, rng))
        if not any(box_of(item).touches(box, _GAP) for box in taken):
            return item
    return None


def _up_to(rng: Random, lengths: tuple[float, float], longest: float) -> float:
    return _between(rng, lengths[0], min(lengths[1], longest))


def _between(rng: Random, low: float, high: float) -> float:
    """Draw a length in quarter units, so that scenes read well as text and keys are exact."""
    return rng.randint(ceil(4 * low), floor(4 * high)) / 4
