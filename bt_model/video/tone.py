"""HDR, and SDR of a wider gamut, to the SDR of bt709 that models were trained on.

Light is counted in the white of SDR, 203 cd/m2 (BT.2408). H height, W width.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bt_model.video.facts import Picture

SDR_WHITE = 203.0  # cd/m2
KNEE = 0.94  # of the output's range: what is brighter is rolled off towards 1; white is 0.97 then, 247 of 255
DISPLAY_GAMMA = 2.4  # BT.1886: what SDR is made for, so that HDR of a scene gives the values of its SDR

_HLG_PEAK = 1000.0  # cd/m2, of the display that HLG is defined for
_HLG_SYSTEM_GAMMA = 1.2
_PQ_PEAK = 10000.0
_DEEP = 65535
_DARKEST = np.float32(1e-9)  # black too, but its root is taken five times as fast as that of 0

_WHITE = (0.3127, 0.3290)  # D65
_GAMUTS = {  # x and y of red, green and blue
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "smpte432": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}


class Tone:
    """Converts the frames of one clip; those that are SDR of bt709's gamut, or of a similar one, stay."""

    def __init__(self, picture: Picture) -> None:
        self._is_hdr = picture.tone_mapped
        wide = "bt2020" if self._is_hdr else "bt709"  # without primaries, an HDR transfer implies them
        gamut = picture.color_primaries if picture.color_primaries in _GAMUTS else wide
        self.is_needed = self._is_hdr or gamut != "bt709"
        self._transfer = picture.color_transfer if self._is_hdr else "sdr"
        self._to_bt709 = np.linalg.solve(_to_xyz("bt709"), _to_xyz(gamut)).T.astype(np.float32)

    @property
    def pixel_format(self) -> str:
        """What frames are scaled to first: their own transfer, with enough bits for it."""
        return "rgb48le" if self.is_needed else "rgb24"

    def __call__(self, pixels: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.uint8]:
        """(H, W, 3) of `pixel_format` -> (H, W, 3) of SDR."""
        if pixels.dtype == np.uint8:
            return pixels.astype(np.uint8, copy=False)
        light = light_table(self._transfer)[pixels] @ self._to_bt709
        values = np.maximum(light, _DARKEST) ** np.float32(1 / DISPLAY_GAMMA)
        values = rolled_off(values) if self._is_hdr else np.minimum(values, 1)
        return (values * 255 + 0.5).astype(np.uint8)


@cache
def light_table(transfer: str) -> NDArray[np.float32]:
    """(65536,): the light of every stored value, 1 is SDR's white."""
    values = np.arange(_DEEP + 1) / _DEEP
    of = {"arib-std-b67": _hlg, "smpte2084": _pq}
    return of.get(transfer, _sdr)(values).astype(np.float32)


def rolled_off(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Values of the output, in which highlights are above 1 -> up to 1; below the knee they stay.

    Each channel alone, so that a colour too bright to show goes towards white, as on film.
    """
    above = np.maximum(values - KNEE, 0) / (1 - KNEE)
    return np.minimum(values, KNEE) + (1 - KNEE) * above / (1 + above)


def _sdr(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values**DISPLAY_GAMMA


def _hlg(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100, but its system gamma on each channel, as SDR's is: on luminance, colours come out paler."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)  # noqa: PLR2004 - where HLG's two halves meet
    return scene**_HLG_SYSTEM_GAMMA * (_HLG_PEAK / SDR_WHITE)


def _pq(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = values ** (1 / m2)
    return (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) * (_PQ_PEAK / SDR_WHITE)


def _to_xyz(gamut: str) -> NDArray[np.float64]:
    """(3, 3): linear RGB, as a column, to XYZ."""
    columns = np.array([_xyz(*point) for point in _GAMUTS[gamut]]).T
    return columns * np.linalg.solve(columns, _xyz(*_WHITE))


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])
