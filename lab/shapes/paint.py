"""A scene's clip, frame by frame.

F frames, N pictures, S picture side, H and W pixels; colours are RGB. A clip depends on its scene alone, and
the clip of a scene's twin holds exactly the same frames, backwards or, where it blinks, beat by beat.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lab.shapes import events
from lab.shapes.forms import DROP, FORMS, Array
from lab.shapes.grounds import paint_grounds
from lab.shapes.scene import COLOURS, EXTENT, Scene, SceneItem

SIDE = 64
BEHIND, LEVEL, IN_FRONT = range(3)
JUMP = 13.0  # scene units, at the height of a pulse
SWAY = 12.0
GROW = 0.9  # share of the diameter
_BLINK_FROM = 0.45  # of a pulse's height: about the middle two thirds of its time

Pixels = NDArray[np.uint8]


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


class Track(NamedTuple):
    """The actor frame by frame, in scene units and degrees. All (F,)."""

    x: Array
    y: Array
    diameter: Array
    turn: Array
    is_recoloured: NDArray[np.bool_]
    is_visible: NDArray[np.bool_]


def paint_clip(scene: Scene, side: int = SIDE, num_frames: int = events.NUM_FRAMES) -> Pixels:
    """Paint all frames of a scene. -> (F,S,S,3)."""
    twin = scene.twin()
    # one of two twins is painted, the other is its reverse to the bit
    if not isinstance(scene.event, events.Blink) and scene.to_json() > twin.to_json():
        return paint_clip(twin, side, num_frames)[::-1].copy()
    track = _track(scene, num_frames)
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
    """A body turned by degrees about its centroid, which in a triangle is below the centre."""
    drop = DROP * mark.a if mark.form == "triangle" else 0.0
    angle = np.deg2rad(turn)
    right, down = drop * float(np.sin(angle)), drop * float(1 - np.cos(angle))
    return mark._replace(x=mark.x + right, y=mark.y + down, turn=turn)


def blend(marks: Sequence[Mark], canvas: Array) -> None:
    """Paint marks onto pictures in place, layer by layer; a picture has a form once in a layer at most.

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
        alpha = FORMS[form](dx, dy, a, b, pixel)
        picture = [mark.picture for mark in same]
        colours = np.array([mark.colour for mark in same], np.float32)[:, :, None, None]
        below = canvas[picture]
        canvas[picture] = below + alpha[:, None] * (colours - below)


def to_pixels(canvas: Array) -> Pixels:
    """Round levels to bytes, in place. (N,3,H,W) -> (N,H,W,3)."""
    # the colour axis comes before the pixels until here, so that blending runs along whole rows
    return np.ascontiguousarray(np.rint(canvas, out=canvas).astype(np.uint8).transpose(0, 2, 3, 1))


def _turned_back(dx: Array, dy: Array, turns: list[float]) -> tuple[Array, Array]:
    """Offsets along the axes of the unturned form; unchanged where nothing is turned."""
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
        if is_recoloured and isinstance(event, events.Recolour):
            mark = mark._replace(colour=COLOURS[event.after])
        if is_visible:
            marks.append(turned(mark, turn))
    return marks


def _track(scene: Scene, num_frames: int) -> Track:
    """Follow the actor through a clip of `num_frames` frames, from the first moment to the last. -> (F,)."""
    time = np.linspace(0, events.NUM_FRAMES - 1, num_frames, dtype=np.float32)
    share = time / (events.NUM_FRAMES - 1)
    rest = _resting(scene, num_frames)
    match scene.event:
        case events.Move() as event:
            track = _moved(rest, event, share)
        case events.Pace() as event:
            track = _moved(rest, event, share**2 if event.word == "speed up" else 1 - (1 - share) ** 2)
        case events.Change() as event:
            since = time if event.word == "appear" else events.NUM_FRAMES - 1 - time
            track = rest._replace(is_visible=since >= event.absent)
        case events.Resize() as event:
            signed = event.share if event.word == "grow" else -event.share
            track = rest._replace(diameter=rest.diameter * (1 + signed * (share - np.float32(0.5))))
        case events.Recolour() as event:
            track = rest._replace(is_recoloured=time >= event.at)
        case events.Blink() as event:
            beats = np.array(list(event.beats)) == "1"
            track = rest._replace(is_visible=beats[np.arange(num_frames) * events.NUM_BEATS // num_frames])
        case events.Rotate() as event:
            signed = event.degrees if event.word == "clockwise" else -event.degrees
            track = rest._replace(turn=event.middle + signed * (share - np.float32(0.5)))
        case events.PulsePair() as event:
            track = _swung(_swung(rest, event.first, time), event.second, events.NUM_FRAMES - 1 - time)
        case _:
            track = rest
    return track


def _resting(scene: Scene, num_frames: int) -> Track:
    numbers = (scene.actor.x, scene.actor.y, scene.actor.diameter, 0.0)
    x, y, diameter, turn = (np.full(num_frames, number, np.float32) for number in numbers)
    return Track(x, y, diameter, turn, np.zeros(num_frames, np.bool_), np.ones(num_frames, np.bool_))


def _moved(rest: Track, event: events.Move | events.Pace, share: Array) -> Track:
    """The item at a share of its way in each frame; its resting place is half way."""
    right, down = events.STEPS[event.direction]
    done = event.path * (share - np.float32(0.5))
    return rest._replace(x=rest.x + right * done, y=rest.y + down * done)


def _swung(track: Track, pulse: events.Pulse, time: Array) -> Track:
    """Add a pulse. time (F,), counted from the end of the clip that the pulse is nearer to."""
    phase = np.clip((time - pulse.margin + 0.5) / pulse.width, 0, 1)
    height = np.sin(np.pi * phase)
    match pulse.name:
        case "sway":
            return track._replace(x=track.x + SWAY * height)
        case "jump":
            return track._replace(y=track.y - JUMP * height)
        case "grow":
            return track._replace(diameter=track.diameter * (1 + GROW * height))
        case _:
            return track._replace(is_visible=track.is_visible & (height < _BLINK_FROM))
