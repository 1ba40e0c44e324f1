"""A scene's clip, frame by frame.

F frames, N pictures, S picture side, H and W pixels; colours are RGB. A clip depends on its scene alone, and
the clip of a scene's twin holds exactly the same frames, backwards or, where it blinks, beat by beat.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lab.shapes.events import NUM_FRAMES, Blink, Recolour, Rotate
from lab.shapes.forms import BODIES, Array, turned_centre
from lab.shapes.grounds import paint_grounds
from lab.shapes.scene import COLOURS, EXTENT, Scene, SceneItem
from lab.shapes.signs import SIGNS
from lab.shapes.tracks import track_of

SIDE = 64
BEHIND, LEVEL, IN_FRONT = range(3)
Pixels = NDArray[np.uint8]

_FORMS = BODIES | SIGNS


class Mark(NamedTuple):
    """One form in one picture: centre and two lengths (see forms.py) in scene units, turn in degrees."""

    picture: int
    form: str
    x: float
    y: float
    a: float
    b: float
    colour: tuple[int, int, int]
    turn: float = 0.0
    layer: int = LEVEL


def paint_clip(scene: Scene, side: int = SIDE, num_frames: int = NUM_FRAMES) -> Pixels:
    """Paint all frames of a scene. -> (F,S,S,3)."""
    twin = scene.twin()
    # one of two twins is painted, the other is its reverse to the bit
    if not isinstance(scene.event, Blink) and scene.to_json() > twin.to_json():
        return paint_clip(twin, side, num_frames)[::-1].copy()
    track = track_of(scene, num_frames)
    states, frame_state = np.unique(np.stack(track, axis=1, dtype=np.float32), axis=0, return_inverse=True)
    canvas = paint_grounds([scene], side, side)
    blend([body(0, item) for item in scene.items[1:]], canvas)
    canvas = canvas.repeat(len(states), axis=0)
    blend(_actor_marks(scene, states), canvas)
    return to_pixels(canvas)[frame_state]


def body(picture: int, item: SceneItem) -> Mark:
    """An item at its resting place."""
    return Mark(picture, item.shape, item.x, item.y, item.diameter / 2, 0.0, COLOURS[item.colour])


def turned(mark: Mark, turn: float) -> Mark:
    """A body turned about its centroid."""
    right, down = turned_centre(mark.form, mark.a, turn)
    return mark._replace(x=mark.x + right, y=mark.y + down, turn=turn)


def blend(marks: Sequence[Mark], canvas: Array) -> None:
    """Paint marks onto pictures in place; of one layer in any order, so one form at most once a layer.

    Args:
        marks: what to paint, in any order.
        canvas: (N,3,H,W), levels 0..255; H pixels span EXTENT scene units.

    Raises:
        KeyError: an unknown form.
    """
    pixel = EXTENT / canvas.shape[2]
    columns = ((np.arange(canvas.shape[3], dtype=np.float32) + 0.5) * np.float32(pixel))[None, None, :]
    rows = ((np.arange(canvas.shape[2], dtype=np.float32) + 0.5) * np.float32(pixel))[None, :, None]
    by_form: dict[tuple[int, str], list[Mark]] = {}
    for mark in marks:
        by_form.setdefault((mark.layer, mark.form), []).append(mark)
    for (_, form), same in sorted(by_form.items()):
        numbers = np.array([mark[2:6] for mark in same], np.float32)[:, :, None, None]
        x, y, a, b = numbers.swapaxes(0, 1)
        dx, dy = _turned_back(columns - x, rows - y, [mark.turn for mark in same])
        alpha = _FORMS[form](dx, dy, a, b, pixel)
        picture = [mark.picture for mark in same]
        colours = np.array([mark.colour for mark in same], np.float32)[:, :, None, None]
        below = canvas[picture]
        canvas[picture] = below + alpha[:, None] * (colours - below)


def to_pixels(canvas: Array) -> Pixels:
    """Round levels to bytes, in place. (N,3,H,W) -> (N,H,W,3)."""
    # colours come before pixels until here: blending then runs along whole rows
    return np.ascontiguousarray(np.rint(canvas, out=canvas).astype(np.uint8).transpose(0, 2, 3, 1))


def _turned_back(dx: Array, dy: Array, turns: list[float]) -> tuple[Array, Array]:
    """Offsets as the unturned form sees them; broadcast as they come where nothing is turned."""
    if not any(turns):
        return dx, dy
    angles = np.deg2rad(np.array(turns))[:, None, None]
    cosine, sine = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def _actor_marks(scene: Scene, states: Array) -> list[Mark]:
    """The actor as each state has it; states (N,6) in the order of Track's fields."""
    event, marks = scene.event, list[Mark]()
    for i, (x, y, diameter, turn, is_recoloured, is_visible) in enumerate(states.tolist()):
        mark = body(i, scene.actor)._replace(x=x, y=y, a=diameter / 2)
        if is_recoloured and isinstance(event, Recolour):
            mark = mark._replace(colour=COLOURS[event.after])
        if is_visible:
            marks.append(turned(mark, turn) if isinstance(event, Rotate) else mark)
    return marks
