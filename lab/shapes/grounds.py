"""Backgrounds: one even colour, or that colour with a faint pattern of a darker or lighter shade.

N pictures, H and W pixels.
"""

from collections.abc import Sequence

import numpy as np

from lab.shapes.forms import Array, opacity
from lab.shapes.scene import BACKGROUNDS, EXTENT, TEXTURES, Scene

_BRIGHT = 384  # sum of red, green and blue from which a background takes black signs and darker patterns
_BLACK = (0, 0, 0)
_WHITE = (255, 255, 255)
_SHADE = 26  # levels of 255 between a background and its pattern
_STRIPES = 8.0  # scene units; no multiple of a patch, 6 units, or all patches would look alike
_DOTS = 5.0
_DOT = 1.4
_CHECKS = 5.0


def paint_grounds(scenes: Sequence[Scene], width: int, side: int) -> Array:
    """Paint backgrounds without items; `side` pixels are EXTENT scene units high. -> (N,3,side,width)."""
    canvas = np.empty((len(scenes), 3, side, width), np.float32)
    for texture in {scene.texture for scene in scenes}:
        same = [i for i, scene in enumerate(scenes) if scene.texture == texture]
        colours = np.array([BACKGROUNDS[scenes[i].background] for i in same], np.float32)[:, :, None, None]
        if texture == "plain":
            canvas[same] = colours
        else:
            # towards the colour of signs, the farther one of black and white
            shades = [-_SHADE if sign_colour(scenes[i]) == _BLACK else _SHADE for i in same]
            steps = np.array(shades, np.float32)[:, None, None, None]
            canvas[same] = colours + steps * _pattern(texture, width, side)
    return canvas


def sign_colour(scene: Scene) -> tuple[int, int, int]:
    """Return the colour that stands out from a scene's background: black or white."""
    return _BLACK if sum(BACKGROUNDS[scene.background]) >= _BRIGHT else _WHITE


def _pattern(texture: str, width: int, side: int) -> Array:
    """Where the other shade lies, 0..1. -> (side,width)."""
    pixel = EXTENT / side
    x = ((np.arange(width, dtype=np.float32) + 0.5) * np.float32(pixel))[None, :]
    y = ((np.arange(side, dtype=np.float32) + 0.5) * np.float32(pixel))[:, None]
    match texture:
        case "stripes":
            signed = np.abs(_off(x + y, _STRIPES)) - _STRIPES / 4
        case "dots":
            signed = np.hypot(_off(x, _DOTS), _off(y, _DOTS)) - _DOT
        case "checks":
            # one colour of a checkerboard: where a column and a row cross, and where neither is
            across = np.abs(_off(x, 2 * _CHECKS)) - _CHECKS / 2
            down = np.abs(_off(y, 2 * _CHECKS)) - _CHECKS / 2
            signed = np.minimum(np.maximum(across, down), np.maximum(-across, -down))
        case _:
            raise ValueError(f"texture {texture!r}: one of {TEXTURES}")
    return opacity(signed, pixel)


def _off(position: Array, period: float) -> Array:
    """Signed distance to the middle of the nearest period."""
    return position % np.float32(period) - np.float32(period / 2)
