"""A scene's clip, frame by frame.

F frames, S picture side in pixels; colours are RGB. A clip depends on its scene alone, and
the clip of a scene's twin is exactly its frames backwards.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bt_model.training.corpus.forms import FORMS, Array
from bt_model.training.corpus.scene import (
    BACKGROUNDS,
    COLOURS,
    EXTENT,
    NUM_FRAMES,
    Change,
    Event,
    Move,
    Order,
    Pulse,
    Scene,
)

SIDE = 48
Pixels = NDArray[np.uint8]

_STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_JUMP = 13.0  # scene units, at the height of a pulse
_SWAY = 12.0
_GROW = 0.9  # share of the diameter
_BLINK_FROM = 0.45  # of a pulse's height: about the middle two thirds of its time


class Mark(NamedTuple):
    """One form in one picture: centre and two lengths (see forms.py) in scene units."""

    picture: int
    form: str
    x: float
    y: float
    a: float
    b: float
    colour: tuple[int, int, int]


class Track(NamedTuple):
    """Where the item is in each frame. All (F,)."""

    x: Array
    y: Array
    diameter: Array
    is_visible: NDArray[np.bool_]


def paint_clip(scene: Scene, side: int = SIDE, num_frames: int = NUM_FRAMES) -> Pixels:
    """Paint all frames of a scene. -> (F,S,S,3)."""
    twin = scene.reversed()
    if scene.to_json() > twin.to_json():  # one of two twins is painted, the other is its reverse to the bit
        return paint_clip(twin, side, num_frames)[::-1].copy()
    track = _track(scene, num_frames)
    stacked = np.stack(track, axis=1)
    states, frame_state = np.unique(stacked, axis=0, return_inverse=True)
    colour = COLOURS[scene.item.colour]
    marks = [
        Mark(i, scene.item.shape, float(x), float(y), float(diameter) / 2, 0.0, colour)
        for i, (x, y, diameter, is_visible) in enumerate(states)
        if is_visible
    ]
    backgrounds = np.tile(np.array(BACKGROUNDS[scene.background], np.float32), (len(states), 1))
    return paint_marks(marks, backgrounds, side, side)[frame_state]


def paint_marks(marks: list[Mark], backgrounds: Array, width: int, side: int) -> Pixels:
    """Paint many pictures at once, forms in the order of FORMS; one form at most once a picture.

    Args:
        marks: what to paint, in any order.
        backgrounds: (N,3), one colour a picture.
        width: picture width in pixels.
        side: picture height in pixels; it spans EXTENT scene units.

    Returns:
        (N,side,width,3).
    """
    # colours before pixels until the end: blending then runs along whole rows
    canvas = np.empty((len(backgrounds), 3, side, width), np.float32)
    canvas[:] = backgrounds[:, :, None, None]
    pixel = EXTENT / side
    columns = ((np.arange(width, dtype=np.float32) + 0.5) * np.float32(pixel))[None, None, :]
    rows = ((np.arange(side, dtype=np.float32) + 0.5) * np.float32(pixel))[None, :, None]
    by_form: dict[str, list[Mark]] = {}
    for mark in marks:
        by_form.setdefault(mark.form, []).append(mark)
    for form, paint in FORMS.items():
        if form not in by_form:
            continue
        same = by_form[form]
        numbers = np.array([mark[2:6] for mark in same], np.float32)[:, :, None, None]
        x, y, a, b = numbers.swapaxes(0, 1)
        alpha = paint(columns - x, rows - y, a, b, pixel)
        picture = [mark.picture for mark in same]
        colours = np.array([mark.colour for mark in same], np.float32)[:, :, None, None]
        below = canvas[picture]
        canvas[picture] = below + alpha[:, None] * (colours - below)
    return np.ascontiguousarray(np.rint(canvas, out=canvas).astype(np.uint8).transpose(0, 2, 3, 1))


def _track(scene: Scene, num_frames: int) -> Track:
    item = scene.item
    time = np.linspace(0, NUM_FRAMES - 1, num_frames, dtype=np.float32)
    x = np.full(num_frames, item.x, np.float32)
    y = np.full(num_frames, item.y, np.float32)
    diameter = np.full(num_frames, item.diameter, np.float32)
    is_visible = np.ones(num_frames, np.bool_)
    event: Event = scene.event
    if isinstance(event, Move):
        step_x, step_y = _STEPS[event.direction]
        done = event.path * (time / (NUM_FRAMES - 1) - 0.5)
        x += step_x * done
        y += step_y * done
    elif isinstance(event, Change):
        since = time if event.word == "appear" else NUM_FRAMES - 1 - time
        is_visible = since >= event.absent
    elif isinstance(event, Order):
        first = _Swing(event.first, time)
        second = _Swing(event.second, NUM_FRAMES - 1 - time)
        for swing in (first, second):
            x += swing.right
            y -= swing.up
            diameter *= swing.scale
            is_visible &= swing.is_visible
    return Track(x, y, diameter, is_visible)


class _Swing:
    """What a pulse adds to the resting item. time (F,), counted from the end of the clip it is nearer to."""

    def __init__(self, pulse: Pulse, time: Array) -> None:
        phase = np.clip((time - pulse.margin + 0.5) / pulse.width, 0, 1)
        height = np.sin(np.pi * phase)
        self.right = _SWAY * height if pulse.name == "sway" else np.zeros_like(time)
        self.up = _JUMP * height if pulse.name == "jump" else np.zeros_like(time)
        self.scale = 1 + _GROW * height if pulse.name == "grow" else np.ones_like(time)
        self.is_visible = height < _BLINK_FROM if pulse.name == "blink" else np.ones(len(time), np.bool_)
