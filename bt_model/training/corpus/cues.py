"""Pictures that show an event by a diagram's means, never used in clips.

A comet tail points away from where the item goes; a hatched item says that it disappears, rays that it
appears; two panels, read from left to right, show which of two events comes first. A still scene has no cue.
N pictures, S picture side in pixels.
"""

from collections.abc import Sequence

import numpy as np

from bt_model.training.corpus.forms import Array
from bt_model.training.corpus.paint import SIDE, Mark, Pixels, paint_marks
from bt_model.training.corpus.scene import BACKGROUNDS, COLOURS, EXTENT, Change, Move, Order, Pulse, Scene

_PANEL_X = EXTENT / 4
_PANEL_Y = EXTENT / 2
_PANEL_RADIUS = 7.0
_JITTER = 0.2  # share of the item's place that moves a panel's drawing
_BRIGHT = 384  # sum of red, green and blue from which a background takes black signs
_BLACK = (0, 0, 0)
_WHITE = (255, 255, 255)


def paint_pictures(scenes: Sequence[Scene], side: int = SIDE) -> Pixels:
    """Paint one picture a scene, its event as a cue. -> (N,S,S,3)."""
    pictures = np.empty((len(scenes), side, side, 3), np.uint8)
    strips = [i for i, scene in enumerate(scenes) if isinstance(scene.event, Order)]
    singles = [i for i, scene in enumerate(scenes) if not isinstance(scene.event, Order)]
    pictures[singles] = _paint_singles([scenes[i] for i in singles], side)
    pictures[strips] = _paint_strips([scenes[i] for i in strips], side)
    return pictures


def _paint_singles(scenes: Sequence[Scene], side: int) -> Pixels:
    marks = [mark for i, scene in enumerate(scenes) for mark in _single_marks(i, scene)]
    return paint_marks(marks, _backgrounds(scenes), side, side)


def _single_marks(picture: int, scene: Scene) -> list[Mark]:
    item, event = scene.item, scene.event
    radius = item.diameter / 2
    colour = COLOURS[item.colour]
    body = Mark(picture, item.shape, item.x, item.y, radius, 0.0, colour)
    if isinstance(event, Move):
        reach = radius + event.path / 2
        tail = Mark(picture, f"tail {event.direction}", item.x, item.y, radius, reach, _sign_colour(scene))
        return [tail, body]
    if isinstance(event, Change) and event.word == "disappear":
        return [body._replace(form=f"hatched {item.shape}")]
    if isinstance(event, Change):
        return [body, body._replace(form="rays", colour=_sign_colour(scene))]
    return [body]


def _paint_strips(scenes: Sequence[Scene], side: int) -> Pixels:
    width = side // 2
    backgrounds = _backgrounds(scenes)
    halves: list[Pixels] = []
    for is_first in (True, False):
        marks: list[Mark] = []
        for i, scene in enumerate(scenes):
            assert isinstance(scene.event, Order)
            pulse = scene.event.first if is_first else scene.event.second
            marks += _panel_marks(i, scene, pulse)
        halves.append(paint_marks(marks, backgrounds, width, side))
    strips = np.concatenate(halves, axis=2)
    signs = np.array([_sign_colour(scene) for scene in scenes], np.uint8).reshape(-1, 1, 1, 3)
    strips[:, :, width - 1 : width + 1] = signs
    return strips


def _panel_marks(picture: int, scene: Scene, pulse: Pulse) -> list[Mark]:
    item = scene.item
    x = _PANEL_X
    y = _PANEL_Y + _JITTER * (item.y - EXTENT / 2)
    body = Mark(picture, item.shape, x, y, _PANEL_RADIUS, 0.0, COLOURS[item.colour])
    sign = body._replace(colour=_sign_colour(scene))
    match pulse.name:
        case "jump":
            return [body._replace(y=y - 9), sign._replace(form="arrow", y=y + 9, a=5.0, b=8.0)]
        case "grow":
            return [body, sign._replace(form=f"outline {item.shape}", a=1.6 * _PANEL_RADIUS)]
        case "blink":
            return [body._replace(y=y - 9), body._replace(form=f"hatched {item.shape}", y=y + 9)]
        case _:
            return [body, sign._replace(form="bars", a=10.5, b=8.0)]


def _backgrounds(scenes: Sequence[Scene]) -> Array:
    return np.array([BACKGROUNDS[scene.background] for scene in scenes], np.float32).reshape(-1, 3)


def _sign_colour(scene: Scene) -> tuple[int, int, int]:
    return _BLACK if sum(BACKGROUNDS[scene.background]) >= _BRIGHT else _WHITE
