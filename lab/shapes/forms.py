"""Forms: an item's shape, drawn in several ways, and the signs that stand for an event in a picture.

N drawings, H and W pixels. A form takes offsets dx, dy (N,H,W) from its centre, two lengths a, b (N,1,1) and
the width of a pixel, all in scene units, and returns opacities (N,H,W) in 0..1; edges are soft. Signs that
point are drawn pointing right, arrows up; whoever paints them turns them.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lab.shapes.scene import SHAPES

Array = NDArray[np.floating]
Form = Callable[[Array, Array, Array, Array, float], Array]

DROP = 0.25  # of a triangle: its centroid below the middle of its height, as a share of the radius
STROKE = 1.1  # half width of lines, in scene units
TICK_PITCH = 5.5  # scene units: nearly one patch of an 8 x 8 grid for each tick
TICK_HEIGHT = 3.5  # half of it
MOST_TICKS = 4
STROBE_HALF = 0.62  # half length of a stroke behind an item, as a share of where the first one is
ARC_WIDTH = 3.0  # half of an arc's arrow head

_CIRCLE = 0.92  # less than a square: its corners then stick out even at twelve pixels
_SQUARE = 1.0  # half sides, bar widths and so on as shares of the radius; areas stay comparable
_ARM = 0.36
_INNER = 0.55  # of a triangle: the radius of its inscribed circle
_RING_MIDDLE = 0.78
_RING_HALF = 0.22
_HATCH = 5.0  # distance between a hatching's strokes
_HATCH_LEAST = 0.3  # opacity between the strokes
_TICK_WIDTH = 1.3
_RAYS = 8
_RAY_HALF_LENGTH = 2.2
_RAY_HALF_WIDTH = 0.8
_TAIL_WIDTH = 0.75
_TAIL_FADE = 0.6
_STROBES = 5
_STROBE_TAPER = 0.6
_STROBE_WIDTH = 1.1  # half of it; neighbouring strokes join where the item is slow
_CHEVRON = 4.0  # from base to tip
_ARC = np.float32(np.deg2rad(75))  # of its stem, from the top
_ARC_HEAD = 5.0


def box(dx: Array, dy: Array, half_width: Array | float, half_height: Array | float) -> Array:
    """Signed distance to a rectangle's edge. (N,H,W) -> (N,H,W)."""
    return np.maximum(np.abs(dx) - half_width, np.abs(dy) - half_height)


def _triangle(dx: Array, dy: Array, radius: Array) -> Array:
    # equilateral, point up; the offset puts its bounding box, not its centroid, in the middle
    dy = dy - DROP * radius
    slanted = np.float32(np.sqrt(3) / 2) * np.abs(dx) - 0.5 * dy
    return np.maximum(slanted, dy) - _INNER * radius


def distance(shape: str, dx: Array, dy: Array, radius: Array) -> Array:
    """Signed distance to a shape's edge, negative inside. (N,H,W) offsets, (N,1,1) radius -> (N,H,W).

    Raises:
        ValueError: an unknown shape.
    """
    match shape:
        case "circle":
            return np.hypot(dx, dy) - _CIRCLE * radius
        case "square":
            return box(dx, dy, _SQUARE * radius, _SQUARE * radius)
        case "triangle":
            return _triangle(dx, dy, radius)
        case "cross":
            arm = _ARM * radius
            return np.minimum(box(dx, dy, radius, arm), box(dx, dy, arm, radius))
        case "ring":
            return np.abs(np.hypot(dx, dy) - _RING_MIDDLE * radius) - _RING_HALF * radius
        case "bar":
            return box(dx, dy, radius, _ARM * radius)
        case _:
            raise ValueError(f"shape {shape!r}: one of {SHAPES}")


def opacity(signed: Array, pixel: float) -> Array:
    """Signed distance to anti-aliased coverage. (N,H,W) -> (N,H,W)."""
    return np.clip(0.5 - signed / np.float32(pixel), 0.0, 1.0, dtype=np.float32)


def _filled(shape: str, dx: Array, dy: Array, a: Array, _b: Array, pixel: float) -> Array:
    return opacity(distance(shape, dx, dy, a), pixel)


def _left(shape: str, dx: Array, dy: Array, a: Array, _b: Array, pixel: float) -> Array:
    return opacity(np.maximum(distance(shape, dx, dy, a), dx), pixel)


def _outline(shape: str, dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    """An outline of half width b."""
    return opacity(np.abs(distance(shape, dx, dy, a)) - b, pixel)


def _hatched(shape: str, dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    strokes = np.clip(0.5 + 2 * np.sin((dx + dy) * np.float32(2 * np.pi / _HATCH)), _HATCH_LEAST, 1.0)
    return _filled(shape, dx, dy, a, b, pixel) * strokes


def _rays(dx: Array, dy: Array, a: Array, _b: Array, pixel: float) -> Array:
    sector = np.float32(2 * np.pi / _RAYS)
    angle = (np.arctan2(dy, dx) + sector / 2) % sector - sector / 2
    reach = np.hypot(dx, dy)
    along = reach * np.cos(angle) - (a + _RAY_HALF_LENGTH)
    return opacity(box(along, reach * np.sin(angle), _RAY_HALF_LENGTH, _RAY_HALF_WIDTH), pixel)


def _tail(dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    """A wedge from a (its half width there too) to b behind an item that goes right."""
    left = (b + dx) / (b - a)
    wedge = np.maximum(np.abs(dy) - _TAIL_WIDTH * a * left, a + dx)
    return opacity(wedge, pixel) * (1 - _TAIL_FADE * (1 - np.clip(left, 0, 1)))


def _strobes(is_dense_behind: bool, dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    """Strokes from a to b behind an item that goes right, at equal times of an even acceleration.

    The slower the item is, the longer they are, so that one end of the trail weighs more.
    """
    length = b - a - 2 * _STROBE_WIDTH
    past = b - _STROBE_WIDTH + dx if is_dense_behind else -dx - a - _STROBE_WIDTH
    aside = np.abs(past)
    for step in range(1, _STROBES):
        aside = np.minimum(aside, np.abs(past - length * np.float32((step / (_STROBES - 1)) ** 2)))
    half = STROBE_HALF * a * (1 - _STROBE_TAPER * np.clip(past / length, 0, 1))
    return opacity(np.maximum(aside - _STROBE_WIDTH, np.abs(dy) - half), pixel)


def _ticks(dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    """The first b of four positions for strokes in a row, a below the centre."""
    from_first = dx + np.float32(TICK_PITCH * (MOST_TICKS - 1) / 2)
    nearest = np.clip(np.rint(from_first / np.float32(TICK_PITCH)), 0, b - 1)
    return opacity(box(from_first - nearest * TICK_PITCH, dy - a, _TICK_WIDTH, TICK_HEIGHT), pixel)


def _chevrons(is_outward: bool, dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    """Four arrow heads of half width b around the centre, a away from it."""
    along = np.maximum(np.abs(dx), np.abs(dy)) - a
    aside = np.minimum(np.abs(dx), np.abs(dy))
    to_tip = _CHEVRON - along if is_outward else along
    return opacity(np.maximum(aside - b * to_tip / _CHEVRON, to_tip - _CHEVRON), pixel)


def _arc(sense: int, dx: Array, dy: Array, a: Array, _b: Array, pixel: float) -> Array:
    """An arrow on a circle of radius a, from the top over the right (sense 1) or left (-1) side down."""
    aside = np.abs(np.hypot(dx, dy) - a)
    along = np.arctan2(sense * dx, -dy) * a
    stem = np.maximum(aside - STROKE, np.maximum(-along, along - _ARC * a))
    to_tip = _ARC * a + _ARC_HEAD - along
    head = np.maximum(aside - ARC_WIDTH * to_tip / _ARC_HEAD, to_tip - _ARC_HEAD)
    return opacity(np.minimum(stem, head), pixel)


def _bars(dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    """Two upright strokes at distance a on both sides, b high either way."""
    return opacity(box(np.abs(dx) - a, dy, STROKE, b), pixel)


def _arrow(dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    """An upward arrow of head half width a and half length b."""
    below_tip = dy + b
    head = np.maximum(np.float32(np.sqrt(0.5)) * (np.abs(dx) - below_tip), below_tip - a)
    stem = box(dx, dy - 0.3 * b, STROKE, 0.7 * b)
    return opacity(np.minimum(head, stem), pixel)


FORMS: dict[str, Form] = {
    **{shape: partial(_filled, shape) for shape in SHAPES},
    **{f"left {shape}": partial(_left, shape) for shape in SHAPES},
    **{f"outline {shape}": partial(_outline, shape) for shape in SHAPES},
    **{f"hatched {shape}": partial(_hatched, shape) for shape in SHAPES},
    "tail": _tail,
    "strobes speed up": partial(_strobes, True),
    "strobes slow down": partial(_strobes, False),
    "rays": _rays,
    "chevrons grow": partial(_chevrons, True),
    "chevrons shrink": partial(_chevrons, False),
    "ticks": _ticks,
    "arc clockwise": partial(_arc, 1),
    "arc counterclockwise": partial(_arc, -1),
    "bars": _bars,
    "arrow": _arrow,
}
