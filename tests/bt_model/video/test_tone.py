"""HDR and wide gamuts come out as the SDR of the same scene; mathematics written twice agree."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bt_model.types import FrameSize, ReaderName, Sampling
from bt_model.video.decode import READER_NAMES, decode
from bt_model.video.tone import KNEE, light_table, rolled_off
from tests.cells import CELLS, MUTED, CellSpec, colours_in, drawn, stored, write_cells, write_values
from tests.clips import ClipSpec, picture, write_clip
from tests.field import field_file

ONE = Sampling(num_frames=1)
WHOLE = FrameSize(64, "whole")
HLG = CellSpec("bt2020nc", "tv", "bt2020", "arib-std-b67", "yuv420p10le")
PQ = replace(HLG, transfer="smpte2084")
WHITE = 255 * (KNEE + (1 - KNEE) / 2)  # where the curve puts 203 cd/m2

hdr = pytest.mark.parametrize("spec", [HLG, PQ], ids=lambda spec: spec.transfer)


def cells_of(path: Path, size: FrameSize = WHOLE, reader: ReaderName = "pyav") -> NDArray[np.float64]:
    return colours_in(decode(path, ONE, size, 1, reader).pixels[0])


@hdr
@pytest.mark.parametrize("range_", ["tv", "pc"])
@pytest.mark.parametrize(
    ("name", "pix_fmt"),
    [
        ("a.mp4", "yuv420p10le"),
        ("a.mov", "yuv422p10le"),
        ("a.mkv", "yuv444p10le"),
        ("b.mkv", "yuv420p"),
    ],
)
def test_hdr_comes_out_as_the_sdr_that_it_was_made_of(
    tmp_path: Path, spec: CellSpec, range_: str, name: str, pix_fmt: str
) -> None:
    spec = replace(spec, range=range_, pix_fmt=pix_fmt, cells=MUTED)
    error = np.abs(cells_of(write_cells(tmp_path / name, spec)) - MUTED)
    # a step of 8 bits of PQ is 8 % of light
    assert error.max() <= (16 if pix_fmt == "yuv420p" else 3)
    assert error.mean() <= (4 if pix_fmt == "yuv420p" else 1)


@hdr
@pytest.mark.parametrize("range_", ["tv", "pc"])
def test_pure_colours_of_hdr_stay_pure_and_white_is_nearly_full(
    tmp_path: Path, spec: CellSpec, range_: str
) -> None:
    got = cells_of(write_cells(tmp_path / "a.mp4", replace(spec, range=range_)))
    assert np.abs(got - CELLS).max() <= 24  # a step of 10 bits moves a dark channel of a pure colour so far
    assert np.abs(got - CELLS).mean() <= 6
    np.testing.assert_allclose(got[4], WHITE, atol=2)


@hdr
@pytest.mark.parametrize("degrees", [90, 180, -90])
@pytest.mark.parametrize("size", [WHOLE, FrameSize(64, "squash"), FrameSize(64, "pad")])
def test_turned_hdr_is_tone_mapped_too(tmp_path: Path, spec: CellSpec, degrees: int, size: FrameSize) -> None:
    path = write_cells(tmp_path / "a.mp4", replace(spec, rotation=degrees, cells=MUTED))
    got = np.rot90(decode(path, ONE, size, 1).pixels[0], -degrees // 90)
    if size.fit == "pad":
        got = got[16:48]
    assert np.abs(colours_in(got) - MUTED).max() <= 3


@hdr
def test_hdr_without_tags_of_its_gamut_and_matrix_has_those_of_hdr(tmp_path: Path, spec: CellSpec) -> None:
    values = stored(drawn(MUTED, 256, 128), "bt2020", spec.transfer)
    bare = replace(spec, matrix="", primaries="", written="bt2020nc")
    assert np.abs(cells_of(write_values(tmp_path / "a.mp4", values, bare)) - MUTED).max() <= 3


@pytest.mark.parametrize("reader", READER_NAMES)
@pytest.mark.parametrize(
    ("primaries", "transfer", "matrix"),
    [
        ("bt2020", "bt709", "bt2020nc"),
        ("smpte432", "iec61966-2-1", "bt709"),
        ("smpte432", "bt709", "smpte170m"),
        ("bt2020", "", ""),
    ],
)
def test_a_wide_gamut_of_sdr_is_brought_to_that_of_bt709(
    tmp_path: Path, reader: ReaderName, primaries: str, transfer: str, matrix: str
) -> None:
    spec = CellSpec(matrix, "tv", primaries, transfer, "yuv420p10le", written="bt2020nc", cells=MUTED)
    assert np.abs(cells_of(write_cells(tmp_path / "a.mp4", spec), reader=reader) - MUTED).max() <= 3


@pytest.mark.parametrize("reader", READER_NAMES)
def test_every_reader_shows_hdr_alike(tmp_path: Path, reader: ReaderName) -> None:
    path = write_cells(tmp_path / "a.mp4", replace(HLG, cells=MUTED))
    assert np.abs(cells_of(path, reader=reader) - MUTED).max() <= 3


def test_plain_sdr_passes_untouched(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", ClipSpec(pix_fmt="yuv444p"))
    frames = decode(path, ONE, FrameSize(64, "whole"), 1)
    expected = picture(frames.indices[0])
    assert np.abs(frames.pixels[0].astype(int) - expected.astype(int)).mean() < 2


@hdr
def test_highlights_roll_off_and_never_turn_back(spec: CellSpec) -> None:
    light = light_table(spec.transfer)
    shown = rolled_off(light.astype(np.float64) ** (1 / 2.4))
    assert (np.diff(shown) >= 0).all()
    assert shown[-1] <= 1
    at = np.searchsorted(light, [0.1, 0.5, 1, 2, 4])
    assert (np.diff(shown[at] * 255) >= 1).all()  # what is brighter than white can still be told apart


@hdr
@pytest.mark.parametrize(("scale", "most"), [(1, 1.5), (2, 6)])
def test_scaling_first_gives_what_whole_frames_converted_in_float64_give(
    tmp_path: Path, spec: CellSpec, scale: int, most: float
) -> None:
    """The slow twin: conversion at full size with formulas of its own, then the mean of each block."""
    values = stored(landscape(256, 384), "bt2020", spec.transfer)
    path = write_values(tmp_path / "a.mp4", values, replace(spec, pix_fmt="yuv444p10le"))
    got = decode(path, ONE, FrameSize(256 // scale, "whole"), 1).pixels[0]
    slow = converted(values, spec.transfer)
    blocks = slow.reshape(256 // scale, scale, 384 // scale, scale, 3).mean(axis=(1, 3))
    assert np.abs(got - blocks * 255).mean() <= most


def landscape(height: int, width: int) -> NDArray[np.float64]:
    """(H, W, 3) of SDR values, with a sun four times as bright as white, a gradient and fine texture."""
    y, x = np.mgrid[:height, :width] / height
    shade = 0.55 + 0.2 * np.sin(40 * x) * np.cos(31 * y)
    ground = np.stack([shade * 0.9, shade * (0.4 + 0.4 * y), 0.2 + 0.5 * x / x.max()], axis=-1)
    sun = np.hypot(y - 0.3, x - 0.7) < 0.12
    return np.where(sun[..., None], (1.75, 1.6, 1.3), ground)


def converted(values: NDArray[np.float64], transfer: str) -> NDArray[np.float64]:
    """Stored RGB (H, W, 3), 0 to 1 -> SDR, 0 to 1, by the standards' text."""
    if transfer == "smpte2084":
        root = values ** (32 / 2523)
        numerator = np.maximum(root - 107 / 128, 0)
        nits = 10000 * (numerator / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)
    else:
        upper = (np.exp((values - 0.55991073) / 0.17883277) + 0.28466892) / 12
        nits = 1000 * np.where(values < 0.5, values * values / 3, upper) ** 1.2
    to_bt709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
    shown = np.clip(nits / 203 @ to_bt709.T, 0, None) ** (1 / 2.4)
    excess = (shown - 0.94) / 0.06
    return np.where(shown < 0.94, shown, 1 - 0.06 / (1 + np.maximum(excess, 0)))


def test_the_hlg_bars_of_the_field_are_seen_as_they_were_meant() -> None:
    error = np.abs(cells_of(field_file("hlg_bars.mp4")) - CELLS)
    assert error.max() <= 30
    assert error.mean() <= 6
