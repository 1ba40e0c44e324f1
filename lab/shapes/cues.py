"""Pictures that show an event by a diagram's means, never used in clips.

A comet tail points away from where the item goes; strokes lie behind it, long and close together where it is
slow. A hatched item disappears, one with rays appears. An outline and arrow heads around an item mean that it
grows, an outline inside and arrow heads towards it that it shrinks. A left half has the colour that comes
first. As many strokes as the item blinks stand below it; an arrow on a circle shows a turn. Two halves, read
from left to right, show which of two events comes first. A still scene has no cue. N pictures, S picture side
in pixels.
"""

from collections.abc import Sequence

import numpy as np

from lab.shapes import events
from lab.shapes.forms import STROKE, TICK_HEIGHT
from lab.shapes.grounds import paint_grounds, sign_colour
from lab.shapes.paint import BEHIND, IN_FRONT, SIDE, Mark, Pixels, blend, body, to_pixels, turned
from lab.shapes.scene import COLOURS, EXTENT, Scene

ARROW_HALF_WIDTH = 4.0
CHEVRON_GAP = 1.5  # between an item at its largest and the arrow heads around it
ARC_GAP = 3.5  # between a turning item's farthest corner and the arrow around it
CORNER = 1.42  # farthest corner of any shape, as a share of its radius
TICK_GAP = 1.5
CORNER_START = 1.25  # of a radius: a square's corner does not hide the trail behind it
RECOLOUR_GAP = 1.0

_ARROW_HALF_LENGTH = 8.0
_CHEVRON_HALF_WIDTH = 3.5
_HALF_X = EXTENT / 4
_HALF_Y = EXTENT / 2
_HALF_RADIUS = 7.0
_JITTER = 0.2  # of the item's distance from the middle, by which the drawing in a half is moved
_INNER_STROKE = 0.7  # half width of an outline inside an item, whose colour stays visible
_CROWDED_Y = 18.0  # of the drawing above bystanders, which is not moved
_BYSTANDER_Y = 43.0
_BYSTANDER_RADIUS = 4.0


def paint_pictures(scenes: Sequence[Scene], side: int = SIDE) -> Pixels:
    """Paint one picture a scene, its event as a cue. -> (N,S,S,3).

    Bystanders stand where they stand in the clip, but small and below, in their order from left to right, in
    each of two halves.
    """
    pictures = np.empty((len(scenes), side, side, 3), np.uint8)
    strips = [i for i, scene in enumerate(scenes) if isinstance(scene.event, events.PulsePair)]
    singles = [i for i, scene in enumerate(scenes) if not isinstance(scene.event, events.PulsePair)]
    pictures[singles] = _paint_singles([scenes[i] for i in singles], side)
    pictures[strips] = _paint_strips([scenes[i] for i in strips], side)
    return pictures


def _paint_singles(scenes: Sequence[Scene], side: int) -> Pixels:
    canvas = paint_grounds(scenes, side, side)
    marks = [body(i, item) for i, scene in enumerate(scenes) for item in scene.items[1:]]
    blend([*marks, *(mark for i, scene in enumerate(scenes) for mark in _actor_marks(i, scene))], canvas)
    return to_pixels(canvas)


def _actor_marks(picture: int, scene: Scene) -> list[Mark]:
    actor = body(picture, scene.actor)
    sign = actor._replace(colour=sign_colour(scene))
    match scene.event:
        case events.Move() | events.Pace() as event:
            marks = [_trail(sign, event), actor]
        case events.Change(word="disappear"):
            marks = [actor._replace(form=f"hatched {actor.form}")]
        case events.Change():
            marks = [actor, sign._replace(form="rays")]
        case events.Resize() as event:
            marks = [actor, *_growth_marks(sign, event)]
        case events.Recolour() as event:
            marks = _recolour_marks(actor, sign, event)
        case events.Blink() as event:
            below = actor.a + TICK_GAP + TICK_HEIGHT
            marks = [actor, sign._replace(form="ticks", a=below, b=float(event.count))]
        case events.Rotate() as event:
            arc = sign._replace(form=f"arc {event.word}", a=actor.a * CORNER + ARC_GAP)
            marks = [turned(actor, event.middle), arc]
        case _:
            marks = [actor]
    return marks


def _trail(sign: Mark, event: events.Move | events.Pace) -> Mark:
    right, down = events.STEPS[event.direction]
    form = "tail" if isinstance(event, events.Move) else f"strobes {event.word}"
    heading = float(np.rad2deg(np.arctan2(down, right)))
    start = sign.a * (CORNER_START if event.direction in events.DIAGONALS else 1.0)
    return sign._replace(form=form, a=start, b=start + event.path / 2, turn=heading, layer=BEHIND)


def _outline(sign: Mark, radius: float, half_width: float) -> Mark:
    # a ring's inner edge, drawn larger, would cover the ring itself
    shape = "circle" if sign.form == "ring" else sign.form
    return sign._replace(form=f"outline {shape}", a=radius, b=half_width, layer=IN_FRONT)


def _growth_marks(sign: Mark, event: events.Resize) -> list[Mark]:
    is_growing, share = event.word == "grow", event.share / 2
    last = sign.a * (1 + share if is_growing else 1 - share)
    around = max(last, sign.a) + CHEVRON_GAP
    chevrons = sign._replace(form=f"chevrons {event.word}", a=around, b=_CHEVRON_HALF_WIDTH)
    return [_outline(sign, last, STROKE if is_growing else _INNER_STROKE), chevrons]


def _recolour_marks(actor: Mark, sign: Mark, event: events.Recolour) -> list[Mark]:
    second = actor._replace(colour=COLOURS[event.after])
    first = actor._replace(form=f"left {actor.form}", layer=IN_FRONT)
    below = sign.y + sign.a + RECOLOUR_GAP + ARROW_HALF_WIDTH
    arrow = sign._replace(form="arrow", y=below, a=ARROW_HALF_WIDTH, b=_ARROW_HALF_LENGTH, turn=90.0)
    return [second, first, arrow]


def _paint_strips(scenes: Sequence[Scene], side: int) -> Pixels:
    width = side // 2
    halves: list[Pixels] = []
    for is_first in (True, False):
        marks: list[Mark] = []
        for i, scene in enumerate(scenes):
            assert isinstance(scene.event, events.PulsePair)
            pulse = scene.event.first if is_first else scene.event.second
            marks += [*_half_marks(i, scene, pulse), *_half_bystanders(i, scene)]
        canvas = paint_grounds(scenes, width, side)
        blend(marks, canvas)
        halves.append(to_pixels(canvas))
    strips = np.concatenate(halves, axis=2)
    signs = np.array([sign_colour(scene) for scene in scenes], np.uint8).reshape(-1, 1, 1, 3)
    strips[:, :, width - 1 : width + 1] = signs
    return strips


def _half_marks(picture: int, scene: Scene, pulse: events.Pulse) -> list[Mark]:
    is_alone = len(scene.items) == 1
    y = _HALF_Y + _JITTER * (scene.actor.y - EXTENT / 2) if is_alone else _CROWDED_Y
    actor = body(picture, scene.actor)._replace(x=_HALF_X, y=y, a=_HALF_RADIUS)
    sign = actor._replace(colour=sign_colour(scene))
    match pulse.name:
        case "jump":
            return [actor._replace(y=y - 9), sign._replace(form="arrow", y=y + 9, a=5.0, b=8.0)]
        case "grow":
            return [actor, _outline(sign, 1.6 * _HALF_RADIUS, STROKE)]
        case "blink":
            return [actor._replace(y=y - 9), actor._replace(form=f"hatched {actor.form}", y=y + 9)]
        case _:
            return [actor, sign._replace(form="bars", a=10.5, b=8.0)]


def _half_bystanders(picture: int, scene: Scene) -> list[Mark]:
    """Small and side by side below the drawing, in their order from left to right."""
    others = sorted(scene.items[1:], key=lambda item: item.x)
    pitch = EXTENT / 2 / (len(others) + 1)
    return [
        body(picture, item)._replace(x=pitch * (i + 1), y=_BYSTANDER_Y, a=_BYSTANDER_RADIUS)
        for i, item in enumerate(others)
    ]
