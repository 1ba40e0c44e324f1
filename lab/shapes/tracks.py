"""Where, how large, how turned and of which colour the actor is in each frame of its clip. F frames."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lab.shapes.events import (
    NUM_BEATS,
    NUM_FRAMES,
    STEPS,
    Blink,
    Change,
    Move,
    Pace,
    Pulse,
    PulsePair,
    Recolour,
    Resize,
    Rotate,
)
from lab.shapes.forms import Array
from lab.shapes.scene import Scene

JUMP = 13.0  # scene units, at the height of a pulse
SWAY = 12.0
GROW = 0.9  # share of the diameter
_BLINK_FROM = 0.45  # of a pulse's height: about the middle two thirds of its time


class Track(NamedTuple):
    """The actor frame by frame, in scene units and degrees. All (F,)."""

    x: Array
    y: Array
    diameter: Array
    turn: Array
    is_recoloured: NDArray[np.bool_]
    is_visible: NDArray[np.bool_]


def track_of(scene: Scene, num_frames: int = NUM_FRAMES) -> Track:
    """Follow the actor through a clip of `num_frames` frames, from the first moment to the last. -> (F,)."""
    time = np.linspace(0, NUM_FRAMES - 1, num_frames, dtype=np.float32)
    share = time / (NUM_FRAMES - 1)
    rest = _resting(scene, num_frames)
    match scene.event:
        case Move() as event:
            track = _moved(rest, event, share)
        case Pace() as event:
            track = _moved(rest, event, share**2 if event.word == "speed up" else 1 - (1 - share) ** 2)
        case Change() as event:
            since = time if event.word == "appear" else NUM_FRAMES - 1 - time
            track = rest._replace(is_visible=since >= event.absent)
        case Resize() as event:
            signed = event.share if event.word == "grow" else -event.share
            track = rest._replace(diameter=rest.diameter * (1 + signed * (share - np.float32(0.5))))
        case Recolour() as event:
            track = rest._replace(is_recoloured=time >= event.at)
        case Blink() as event:
            beats = np.array(list(event.beats)) == "1"
            track = rest._replace(is_visible=beats[np.arange(num_frames) * NUM_BEATS // num_frames])
        case Rotate() as event:
            signed = event.degrees if event.word == "clockwise" else -event.degrees
            track = rest._replace(turn=event.middle + signed * (share - np.float32(0.5)))
        case PulsePair() as event:
            track = _swung(_swung(rest, event.first, time), event.second, NUM_FRAMES - 1 - time)
        case _:
            track = rest
    return track


def _resting(scene: Scene, num_frames: int) -> Track:
    item = scene.actor
    x, y, diameter, turn = (
        np.full(num_frames, value, np.float32) for value in (item.x, item.y, item.diameter, 0.0)
    )
    return Track(x, y, diameter, turn, np.zeros(num_frames, np.bool_), np.ones(num_frames, np.bool_))


def _moved(rest: Track, event: Move | Pace, share: Array) -> Track:
    """The item at a share of its way in each frame; its resting place is half way."""
    right, down = STEPS[event.direction]
    done = event.path * (share - np.float32(0.5))
    return rest._replace(x=rest.x + right * done, y=rest.y + down * done)


def _swung(track: Track, pulse: Pulse, time: Array) -> Track:
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
