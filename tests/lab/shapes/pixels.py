"""What a test sees in a picture: a hand-made scene, and where and how much of a colour there is."""

import numpy as np
from numpy.typing import NDArray

from lab.shapes.events import Event
from lab.shapes.scene import COLOURS, EXTENT, Scene, SceneItem

Frame = NDArray[np.uint8]


def scene_of(event: Event, shape: str = "square", colour: str = "red", diameter: float = 14.0) -> Scene:
    return Scene((SceneItem(shape, colour, diameter, x=24.0, y=26.0),), "black", event)


def of_colour(frame: Frame, colour: str) -> NDArray[np.bool_]:
    """Where the frame is nearer to a colour than half way. (S,S,3) -> (S,S)."""
    return np.linalg.norm(frame - np.array(COLOURS[colour], np.float64), axis=-1) < 60


def of_sign(frame: Frame) -> NDArray[np.bool_]:
    """Where signs on a black background are: what is white or gray. (S,S,3) -> (S,S)."""
    return np.array((frame > 60).all(axis=-1), np.bool_)


def centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Centre of what is true, in scene units. (S,S) -> (x, y)."""
    rows, columns = np.nonzero(mask)
    unit = EXTENT / len(mask)
    return float(columns.mean() + 0.5) * unit, float(rows.mean() + 0.5) * unit


def area(frame: Frame, colour: str = "red") -> int:
    return int(of_colour(frame, colour).sum())


def runs(values: list[bool]) -> list[tuple[bool, int]]:
    """Equal neighbours counted: [(value, how many)]."""
    counted: list[tuple[bool, int]] = []
    for value in values:
        before = counted.pop() if counted and counted[-1][0] == value else (value, 0)
        counted.append((value, before[1] + 1))
    return counted
