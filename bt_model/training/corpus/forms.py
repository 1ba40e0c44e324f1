"""Signed distances and opacities of everything that is drawn.

N drawings, H and W pixels. A form takes offsets dx, dy (N,H,W) from its centre, two lengths a, b
(N,1,1) and the width of a pixel, all in scene units, and returns opacities (N,H,W) in 0..1; edges are soft.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bt_model.training.corpus.scene import SHAPES

Array = NDArray[np.floating]
Form = Callable[[Array, Array, Array, Array, float], Array]

_CIRCLE = 0.92  # with full squares, corners tell the two apart at twelve pixels
_SQUARE = 1.0  # half sides, bar widths and so on as shares of the radius; areas stay comparable
_ARM = 0.36
_INNER = 0.55  # of a triangle: the radius of its inscribed circle
_DROP = 0.25  # of a triangle: its centroid below the middle of its height
_RING_MIDDLE = 0.78
_RING_HALF = 0.22
_STROKE = 1.1  # half width of outlines, in scene units
_HATCH = 5.0  # distance between a hatching's strokes
_HATCH_LEAST = 0.3  # opacity between the strokes
_RAYS = 8
_RAY_HALF_LENGTH = 2.2
_RAY_HALF_WIDTH = 0.8
_TAIL_WIDTH = 0.75
_TAIL_FADE = 0.6


def _box(dx: Array, dy: Array, half_width: Array | float, half_height: Array | float) -> Array:
    return np.maximum(np.abs(dx) - half_width, np.abs(dy) - half_height)


def _triangle(dx: Array, dy: Array, radius: Array) -> Array:
    # equilateral, point up; the offset puts its bounding box, not its centroid, in the middle
    dy = dy - _DROP * radius
    slanted = np.float32(np.sqrt(3) / 2) * np.abs(dx) - 0.5 * dy
    return np.maximum(slanted, dy) - _INNER * radius


def distance(shape: str, dx: Array, dy: Array, radius: Array) -> Array:
    """Signed distance to a shape's edge, negative inside. (N,H,W) offsets, (N,1,1) radius -> (N,H,W)."""
    match shape:
        case "circle":
            return np.hypot(dx, dy) - _CIRCLE * radius
        case "square":
            return _box(dx, dy, _SQUARE * radius, _SQUARE * radius)
        case "triangle":
            return _triangle(dx, dy, radius)
        case "cross":
            arm = _ARM * radius
            return np.minimum(_box(dx, dy, radius, arm), _box(dx, dy, arm, radius))
        case "ring":
            return np.abs(np.hypot(dx, dy) - _RING_MIDDLE * radius) - _RING_HALF * radius
        case "bar":
            return _box(dx, dy, radius, _ARM * radius)
        case _:
            raise ValueError(f"shape {shape!r}: one of {SHAPES}")


def opacity(signed: Array, pixel: float) -> Array:
    """Signed distance to anti-aliased coverage. (N,H,W) -> (N,H,W)."""
    return np.clip(0.5 - signed / np.float32(pixel), 0.0, 1.0, dtype=np.float32)


def _filled(shape: str, dx: Array, dy: Array, a: Array, _b: Array, pixel: float) -> Array:
    return opacity(distance(shape, dx, dy, a), pixel)


def _outline(shape: str, dx: Array, dy: Array, a: Array, _b: Array, pixel: float) -> Array:
    return opacity(np.abs(distance(shape, dx, dy, a)) - _STROKE, pixel)


def _hatched(shape: str, dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    strokes = np.clip(0.5 + 2 * np.sin((dx + dy) * np.float32(2 * np.pi / _HATCH)), _HATCH_LEAST, 1.0)
    return _filled(shape, dx, dy, a, b, pixel) * strokes


def _rays(dx: Array, dy: Array, a: Array, _b: Array, pixel: float) -> Array:
    sector = np.float32(2 * np.pi / _RAYS)
    angle = (np.arctan2(dy, dx) + sector / 2) % sector - sector / 2
    reach = np.hypot(dx, dy)
    along = reach * np.cos(angle) - (a + _RAY_HALF_LENGTH)
    return opacity(_box(along, reach * np.sin(angle), _RAY_HALF_LENGTH, _RAY_HALF_WIDTH), pixel)


def _tail(axis: tuple[int, int], dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    """A wedge from a (its half width there too) to b behind an item that goes along `axis`."""
    behind = -(dx * axis[0] + dy * axis[1])
    aside = dx * axis[1] + dy * axis[0]
    left = (b - behind) / (b - a)
    wedge = np.maximum(np.abs(aside) - _TAIL_WIDTH * a * left, a - behind)
    return opacity(wedge, pixel) * (1 - _TAIL_FADE * (1 - np.clip(left, 0, 1)))


def _bars(dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    """Two upright strokes at distance a on both sides, b high either way."""
    return opacity(_box(np.abs(dx) - a, dy, _STROKE, b), pixel)


def _arrow(dx: Array, dy: Array, a: Array, b: Array, pixel: float) -> Array:
    """An upward arrow of head half width a and half length b."""
    below_tip = dy + b
    head = np.maximum(np.float32(np.sqrt(0.5)) * (np.abs(dx) - below_tip), below_tip - a)
    stem = _box(dx, dy - 0.3 * b, _STROKE, 0.7 * b)
    return opacity(np.minimum(head, stem), pixel)


_AXES = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

# in painting order: what comes later lies on top
FORMS: dict[str, Form] = {
    **{f"tail {direction}": partial(_tail, axis) for direction, axis in _AXES.items()},
    **{shape: partial(_filled, shape) for shape in SHAPES},
    **{f"outline {shape}": partial(_outline, shape) for shape in SHAPES},
    **{f"hatched {shape}": partial(_hatched, shape) for shape in SHAPES},
    "rays": _rays,
    "bars": _bars,
    "arrow": _arrow,
}
