"""Shapes as signed distances, and the ways in which an item's body is drawn.

N drawings, H and W pixels. A form takes offsets dx, dy (N,H,W) from its centre, two lengths a, b (N,1,1) and
the width of a pixel, all in scene units, and returns opacities (N,H,W) in 0..1; edges are soft.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lab.shapes.scene import SHAPES

Array = NDArray[np.floating]
Form = Callable[[Array, Array, Array, Array, float], Array]

STROKE = 1.1  # half width of lines, in scene units

_CIRCLE = 0.92  # with full squares, corners tell the two apart at twelve pixels
_SQUARE = 1.0  # half sides, bar widths and so on as shares of the radius; areas stay comparable
_ARM = 0.36
_INNER = 0.55  # of a triangle: the radius of its inscribed circle
_DROP = 0.25  # of a triangle: its centroid below the middle of its height
_RING_MIDDLE = 0.78
_RING_HALF = 0.22
_HATCH = 5.0  # distance between a hatching's strokes
_HATCH_LEAST = 0.3  # opacity between the strokes


def box(dx: Array, dy: Array, half_width: Array | float, half_height: Array | float) -> Array:
    """Signed distance to a rectangle's edge. (N,H,W) -> (N,H,W)."""
    return np.maximum(np.abs(dx) - half_width, np.abs(dy) - half_height)


def _triangle(dx: Array, dy: Array, radius: Array) -> Array:
    # equilateral, point up; the offset puts its bounding box, not its centroid, in the middle
    dy = dy - _DROP * radius
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


def turned_centre(shape: str, radius: float, turn: float) -> tuple[float, float]:
    """How far a shape's centre moves when the shape turns about its centroid. Degrees -> (x, y)."""
    drop = _DROP * radius if shape == "triangle" else 0.0
    angle = np.deg2rad(turn)
    return drop * float(np.sin(angle)), drop * float(1 - np.cos(angle))


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


BODIES: dict[str, Form] = {
    **{shape: partial(_filled, shape) for shape in SHAPES},
    **{f"left {shape}": partial(_left, shape) for shape in SHAPES},
    **{f"outline {shape}": partial(_outline, shape) for shape in SHAPES},
    **{f"hatched {shape}": partial(_hatched, shape) for shape in SHAPES},
}
