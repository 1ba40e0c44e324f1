"""Random scenes of each kind of event, in which nothing covers or leaves anything.

Lengths in scene units, times in frames, angles in degrees.
"""

from dataclasses import dataclass
from itertools import product
from math import ceil, floor
from random import Random
from typing import NamedTuple

from lab.shapes import cues, events, forms, paint
from lab.shapes.scene import BACKGROUNDS, COLOURS, EXTENT, SHAPES, TEXTURES, Scene, SceneItem

MOST_ITEMS = 3
TURNING = ("square", "triangle", "cross", "bar")  # a turn of the others cannot be seen

_SMALL = (14.0, 16.0)  # diameters
_LARGE = (22.0, 25.0)
_DIAMETERS = {
    events.Pace.kind: (_SMALL,),  # leaves room for a path long enough to see an acceleration
    events.PulsePair.kind: (_SMALL,),  # leaves room to jump, grow and sway
    events.Resize.kind: ((15.0, 18.0),),  # at the middle of the clip
    events.Rotate.kind: (_SMALL, (19.5, 21.5)),  # leaves room for the corners
}
_CROWDED = (10.5, 12.5)  # in scenes of several items
# what grows or turns is unclear if it is any smaller
_CROWDED_DIAMETERS = dict.fromkeys((events.Resize.kind, events.Rotate.kind), (12.0, 13.5))
_MOVE_PATHS = (20.0, 32.0)
_PACE_PATHS = (26.0, 34.0)
_CROWDED_PATH = 28.0  # the longest
_EDGE = 1.0  # least distance of an item from the picture's edge
_GAP = 2.0  # least distance of an item from another's room
_TRIES = 20  # positions of a bystander, before the whole scene is drawn again
_ABSENT = (8, 20)  # of 32 frames: a few sampled ones always show the item, a few do not
_RECOLOURED_AT = (10, 22)  # a few sampled frames show either colour, about half of them each
_PULSE_WIDTHS = (12, 13, 14)
_PULSE_MARGINS = (0, 1, 2)
_SHARES = (0.7, 0.8, 0.9, 1.0)  # of the middle diameter: the larger end is 2 to 3 times the smaller one
# less than 45 from one of four sampled frames to the next: by 45, a square could have turned either way
_TURN_DEGREES = (60, 110)
_ANGLE_STEP = 5
_BEATS_ON = events.NUM_BEATS // 2  # the same for every count, so that time on screen does not give it away
_ONE_CHANGE = ("0" * _BEATS_ON + "1" * _BEATS_ON, "1" * _BEATS_ON + "0" * _BEATS_ON)

_RAYS = 4.5  # how far signs reach beyond the item that they are about
_CHEVRONS = cues.CHEVRON_GAP + 4.0
_CORNERS = 0.72 * cues.CORNER_START * (1 + forms.STROBE_HALF)  # of slanted strokes, as a share of a radius
_TICKS = forms.TICK_PITCH * forms.MOST_TICKS / 2


def _patterns(count: int) -> tuple[str, ...]:
    """All ways to be gone `count` times and there for half of the beats, but what looks like a change."""
    every = ("".join(beats) for beats in product("01", repeat=events.NUM_BEATS))
    fair = [beats for beats in every if beats.count("1") == _BEATS_ON and beats not in _ONE_CHANGE]
    return tuple(beats for beats in fair if events.Blink(beats, beats).count == count)


_BEATS = {count: _patterns(count) for count in events.COUNTS}


@dataclass(frozen=True, slots=True)
class Variety:
    """What scenes may hold beyond one item that moves along an axis on an even background."""

    most_items: int = 1
    textures: bool = False
    diagonals: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.most_items <= MOST_ITEMS:
            raise ValueError(f"most_items {self.most_items}: 1 to {MOST_ITEMS}")


class Rectangle(NamedTuple):
    """A part of the picture, or of the surroundings of an item at (0, 0)."""

    left: float
    top: float
    right: float
    bottom: float

    def at(self, x: float, y: float) -> "Rectangle":
        """Move the surroundings of an item at (0, 0) to those of one at (x, y)."""
        return Rectangle(self.left + x, self.top + y, self.right + x, self.bottom + y)

    def touches(self, other: "Rectangle", gap: float) -> bool:
        """Tell whether two rectangles come nearer to each other than `gap`."""
        is_beside = self.left - other.right >= gap or other.left - self.right >= gap
        is_above = self.top - other.bottom >= gap or other.top - self.bottom >= gap
        return not (is_beside or is_above)


def draw_scene(kind: str, rng: Random, variety: Variety) -> Scene:
    """Draw any scene of an event kind; each number of items is equally likely."""
    count = rng.randint(1, variety.most_items)
    while (scene := _try(kind, count, rng, variety)) is None:
        pass
    return scene


def _try(kind: str, count: int, rng: Random, variety: Variety) -> Scene | None:
    """Draw a scene of `count` items, or none where no room is left for its bystanders."""
    shapes = [rng.choice(TURNING if kind == events.Rotate.kind else SHAPES)]
    shapes += rng.sample([shape for shape in SHAPES if shape not in shapes], count - 1)
    colour, after, *others = rng.sample(list(COLOURS), 2 + count - 1)
    diameter = _diameter(kind, rng, count > 1)
    directions = events.DIRECTIONS + events.DIAGONALS if variety.diagonals else events.DIRECTIONS
    longest = min(EXTENT - diameter - 2 * _EDGE, _CROWDED_PATH if count > 1 else EXTENT)
    event = _event(kind, rng, after, directions, longest)
    room = room_of(event, diameter)
    x, y = _position(room, rng)
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


def _event(kind: str, rng: Random, after: str, directions: tuple[str, ...], longest: float) -> events.Event:
    match kind:
        case events.Move.kind:
            event = events.Move(rng.choice(directions), _up_to(rng, _MOVE_PATHS, longest))
        case events.Pace.kind:
            word, direction = rng.choice(events.PACES), rng.choice(directions)
            event = events.Pace(word, direction, _up_to(rng, _PACE_PATHS, longest))
        case events.Change.kind:
            event = events.Change(rng.choice(events.CHANGES), rng.randint(*_ABSENT))
        case events.Resize.kind:
            event = events.Resize(rng.choice(events.RESIZES), rng.choice(_SHARES))
        case events.Recolour.kind:
            event = events.Recolour(after, rng.randint(*_RECOLOURED_AT))
        case events.Blink.kind:
            count, other = rng.sample(events.COUNTS, 2)
            event = events.Blink(rng.choice(_BEATS[count]), rng.choice(_BEATS[other]))
        case events.Rotate.kind:
            degrees = rng.randrange(*_TURN_DEGREES, _ANGLE_STEP)
            event = events.Rotate(rng.choice(events.TURNS), degrees, rng.randrange(0, 360, _ANGLE_STEP))
        case events.PulsePair.kind:
            event = events.PulsePair(*(_pulse(name, rng) for name in rng.sample(events.PULSES, 2)))
        case _:
            event = events.Still()
    return event


def _pulse(name: str, rng: Random) -> events.Pulse:
    return events.Pulse(name, rng.choice(_PULSE_MARGINS), rng.choice(_PULSE_WIDTHS))


def _diameter(kind: str, rng: Random, is_crowded: bool) -> float:
    if is_crowded:
        return _between(rng, *_CROWDED_DIAMETERS.get(kind, _CROWDED))
    return _between(rng, *rng.choice(_DIAMETERS.get(kind, (_SMALL, _LARGE))))


def _position(room: Rectangle, rng: Random) -> tuple[float, float]:
    x = _between(rng, _EDGE - room.left, EXTENT - room.right - _EDGE)
    y = _between(rng, _EDGE - room.top, EXTENT - room.bottom - _EDGE)
    return x, y


def _bystander(shape: str, colour: str, taken: list[Rectangle], rng: Random) -> SceneItem | None:
    diameter = _between(rng, *_CROWDED)
    room = room_of(events.Still(), diameter)
    for _ in range(_TRIES):
        item = SceneItem(shape, colour, diameter, *_position(room, rng))
        if not any(box_of(item).touches(box, _GAP) for box in taken):
            return item
    return None


def _up_to(rng: Random, lengths: tuple[float, float], longest: float) -> float:
    return _between(rng, lengths[0], min(lengths[1], longest))


def _between(rng: Random, low: float, high: float) -> float:
    """Draw a length in quarter units, so that scenes read well as text and keys are exact."""
    return rng.randint(ceil(4 * low), floor(4 * high)) / 4


def room_of(event: events.Event, diameter: float) -> Rectangle:
    """Return what the clip or the cue of an item at (0, 0), of this diameter at rest, may cover."""
    radius = diameter / 2
    match event:
        case events.Move() | events.Pace():
            right, down = (abs(step) * event.path / 2 for step in events.STEPS[event.direction])
            is_slanted = isinstance(event, events.Pace) and event.direction in events.DIAGONALS
            body = radius * (_CORNERS if is_slanted else 1.0)
            room = _around(body + right, body + down)
        case events.Change():
            room = _around(radius + _RAYS)
        case events.Resize():
            room = _around(radius * (1 + event.share / 2) + _CHEVRONS)
        case events.Recolour():
            below = radius + (cues.RECOLOUR_GAP + 2 * cues.ARROW_HALF_WIDTH)
            room = Rectangle(-radius, -radius, radius, below)
        case events.Blink():
            side = max(radius, _TICKS)
            room = Rectangle(-side, -radius, side, radius + cues.TICK_GAP + 2 * forms.TICK_HEIGHT)
        case events.Rotate():
            room = _around(radius * cues.CORNER + cues.ARC_GAP + forms.ARC_WIDTH)
        case events.PulsePair():
            grown = radius * (1 + paint.GROW)
            room = Rectangle(-grown, -radius - paint.JUMP, radius + paint.SWAY, grown)
        case _:
            room = _around(radius)
    return room


def box_of(item: SceneItem) -> Rectangle:
    """Return what a resting item covers."""
    return _around(item.diameter / 2).at(item.x, item.y)


def _around(across: float, down: float | None = None) -> Rectangle:
    """A rectangle around (0, 0) that reaches as far to both sides, and up and down, where `down` is given."""
    reach = across if down is None else down
    return Rectangle(-across, -reach, across, reach)
