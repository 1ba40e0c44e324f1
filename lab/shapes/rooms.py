"""The part of the picture that an item needs to itself, for its clip and for its cue.

Lengths in scene units.
"""

from typing import NamedTuple

from lab.shapes import cues, signs, tracks
from lab.shapes.events import (
    DIAGONALS,
    STEPS,
    Blink,
    Change,
    Event,
    Move,
    Pace,
    PulsePair,
    Recolour,
    Resize,
    Rotate,
)
from lab.shapes.scene import EXTENT, SceneItem

_RAYS = 4.5
_CHEVRONS = cues.CHEVRON_GAP + 4.0
_CORNERS = 0.72 * cues.CORNER_START * (1 + signs.STROBE_HALF)  # of slanted strokes, as a share of a radius
_TICKS = signs.TICK_PITCH * signs.MOST_TICKS / 2


class Room(NamedTuple):
    """How far a room reaches from the item's resting place."""

    left: float
    top: float
    right: float
    bottom: float

    def at(self, x: float, y: float) -> "Rectangle":
        return Rectangle(x - self.left, y - self.top, x + self.right, y + self.bottom)


class Rectangle(NamedTuple):
    """A rectangle of the picture."""

    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: "Rectangle", gap: float) -> bool:
        """Tell whether two rectangles come nearer to each other than `gap`."""
        is_beside = self.left - other.right >= gap or other.left - self.right >= gap
        is_above = self.top - other.bottom >= gap or other.top - self.bottom >= gap
        return not (is_beside or is_above)

    def is_inside(self, edge: float) -> bool:
        """Tell whether the picture holds the rectangle, `edge` away from its border."""
        return min(self.left, self.top) >= edge and max(self.right, self.bottom) <= EXTENT - edge


def room_of(event: Event, diameter: float) -> Room:
    """Return the room of an item of this resting diameter: all that its clip or its cue may cover."""
    radius = diameter / 2
    match event:
        case Move() | Pace():
            right, down = (abs(step) * event.path / 2 for step in STEPS[event.direction])
            body = radius * (_CORNERS if event.kind == Pace.kind and event.direction in DIAGONALS else 1.0)
            room = Room(body + right, body + down, body + right, body + down)
        case Change():
            room = _square(radius + _RAYS)
        case Resize():
            room = _square(radius * (1 + event.share / 2) + _CHEVRONS)
        case Recolour():
            below = cues.RECOLOUR_GAP + 2 * cues.ARROW_HALF_WIDTH
            room = Room(radius, radius, radius, radius + below)
        case Blink():
            side = max(radius, _TICKS)
            room = Room(side, radius, side, radius + cues.TICK_GAP + 2 * signs.TICK_HEIGHT)
        case Rotate():
            room = _square(radius * cues.CORNER + cues.ARC_GAP + signs.ARC_WIDTH)
        case PulsePair():
            grown = radius * (1 + tracks.GROW)
            room = Room(grown, radius + tracks.JUMP, radius + tracks.SWAY, grown)
        case _:
            room = _square(radius)
    return room


def box_of(item: SceneItem) -> Rectangle:
    """Return what a resting item covers."""
    return _square(item.diameter / 2).at(item.x, item.y)


def _square(reach: float) -> Room:
    return Room(reach, reach, reach, reach)
