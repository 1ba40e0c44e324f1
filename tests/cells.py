"""Clips of eight flat cells in known colours, in any matrix, range, depth, transfer and gamut.

The mathematics of HDR is written down here a second time, in float64, so that it can be compared.
"""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Rgb = tuple[int, int, int]
CELLS: tuple[Rgb, ...] = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (255, 255, 255),
    (128, 128, 128),
    (0, 0, 0),
    (200, 120, 60),
)
MUTED: tuple[Rgb, ...] = (
    (180, 60, 50),
    (60, 170, 70),
    (50, 70, 180),
    (190, 180, 70),
    (235, 235, 235),
    (128, 128, 128),
    (16, 16, 16),
    (200, 120, 60),
)
_PRIMARIES = {"bt709": 1, "bt2020": 9, "smpte432": 12, "": 2}
_TRANSFERS = {"bt709": 1, "iec61966-2-1": 13, "smpte2084": 16, "arib-std-b67": 18, "": 2}
_MATRICES = {"bt709": 1, "smpte170m": 6, "bt2020nc": 9, "": 2}
_SWS_MATRICES = {"bt709": 1, "smpte170m": 5, "bt2020nc": 9}
_RANGES = {"tv": 1, "pc": 2, "": 0}
# linear RGB of each gamut from linear RGB of bt709, to four digits as BT.2087 has them
_FROM_BT709 = {
    "bt2020": ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956)),
    "smpte432": ((0.8225, 0.1775, 0.0000), (0.0332, 0.9668, 0.0000), (0.0171, 0.0724, 0.9105)),
}


@dataclass(frozen=True)
class CellSpec:
    """`written` is the matrix that is used where `matrix`, the tag, is left empty."""

    matrix: str = "bt709"
    range: str = "tv"
    primaries: str = "bt709"
    transfer: str = "bt709"
    pix_fmt: str = "yuv420p"
    written: str = ""
    cells: tuple[Rgb, ...] = CELLS
    width: int = 256
    height: int = 128
    rotation: int = 0


def drawn(cells: tuple[Rgb, ...], width: int, height: int) -> NDArray[np.float64]:
    """(H, W, 3), 0 to 1: four cells above four."""
    grid = np.array(cells, np.float64).reshape(2, 4, 3) / 255
    return grid.repeat(height // 2, axis=0).repeat(width // 4, axis=1)


def colours_in(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W, 3) -> (8, 3): the mean of the middle of each cell."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 4
    parts = [
        pixels[y * height : (y + 1) * height, x * width : (x + 1) * width] for y in (0, 1) for x in range(4)
    ]
    inner = [part[height // 3 : height - height // 3, width // 3 : width - width // 3] for part in parts]
    return np.array([part.mean(axis=(0, 1)) for part in inner])


def stored(shown: NDArray[np.float64], primaries: str, transfer: str) -> NDArray[np.float64]:
    """SDR of bt709 (0 to 1; above 1 for highlights) in another gamut and transfer, white at 203 cd/m2."""
    light = np.maximum(shown, 0) ** 2.4
    if primaries in _FROM_BT709:
        light = light @ np.array(_FROM_BT709[primaries]).T
    if transfer == "smpte2084":
        power = (light * 203 / 10000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    if transfer == "arib-std-b67":
        scene = (light * 203 / 1000) ** (1 / 1.2)
        upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        return np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)
    return light ** (1 / 2.4)


def write_cells(path: Path, spec: CellSpec = CellSpec(), num_frames: int = 2) -> Path:
    """Encode the cells with these tags."""
    values = stored(drawn(spec.cells, spec.width, spec.height), spec.primaries, spec.transfer)
    return write_values(path, values, spec, num_frames)


def write_values(path: Path, values: NDArray[np.float64], spec: CellSpec, num_frames: int = 2) -> Path:
    """Encode stored RGB values (H, W, 3), 0 to 1."""
    deep = av.VideoFrame.from_ndarray((values * 65535).round().astype(np.uint16), format="rgb48le")
    written = spec.matrix or spec.written
    with av.open(str(path), "w") as output:
        # not x265, which now and then writes a broken header of 10 bits
        stream = output.add_stream("libx264", rate=5, options={"crf": "4"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = values.shape[:2]
        stream.pix_fmt = spec.pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range = _MATRICES[spec.matrix], _RANGES[spec.range]
        context.color_primaries, context.color_trc = _PRIMARIES[spec.primaries], _TRANSFERS[spec.transfer]
        if spec.rotation:
            stream.set_display_rotation(spec.rotation)
        frame = deep.reformat(
            format=spec.pix_fmt,
            dst_colorspace=_SWS_MATRICES[written],
            dst_color_range=_RANGES[spec.range or "tv"],
            interpolation="BICUBIC",
        )
        frame.colorspace, frame.color_range = _MATRICES[spec.matrix], _RANGES[spec.range]
        frame.color_primaries, frame.color_trc = _PRIMARIES[spec.primaries], _TRANSFERS[spec.transfer]
        for i in range(num_frames):
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
