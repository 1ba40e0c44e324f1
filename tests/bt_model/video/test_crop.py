"""The box that a clip is cut to."""

from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from bt_model.video.crop import Box, Crop, Cutout, centre, random_box, scaled

HEIGHT, WIDTH = 256, 456
CROP = Crop()


def boxes(count: int = 2000, height: int = HEIGHT, width: int = WIDTH) -> list[Box]:
    return [random_box(Random(seed), height, width, CROP) for seed in range(count)]


def test_a_box_lies_within_the_frame_and_within_area_and_aspect() -> None:
    for box in boxes():
        assert 0 <= box.top <= HEIGHT - box.height
        assert 0 <= box.left <= WIDTH - box.width
        assert 0.079 < box.height * box.width / (HEIGHT * WIDTH) <= 1
        assert 0.74 < box.width / box.height < 1.35


def test_areas_are_uniform_and_aspects_log_uniform_where_every_box_fits() -> None:
    small = [random_box(Random(seed), 512, 512, Crop(0.1, 0.3)) for seed in range(4000)]
    areas = np.array([box.height * box.width for box in small]) / 512**2
    aspects = np.log([box.width / box.height for box in small])
    assert np.quantile(areas, [0.25, 0.5, 0.75]) == pytest.approx([0.15, 0.2, 0.25], abs=6e-3)
    assert np.quantile(aspects, [0.25, 0.5, 0.75]) == pytest.approx(
        np.log(4 / 3) * np.array([-0.5, 0, 0.5]), abs=0.02
    )
    assert {box.top + box.left for box in small} != {0}


def test_a_frame_that_no_box_fits_is_cut_in_its_middle() -> None:
    box = random_box(Random(0), 16, 400, Crop(1.0, 1.0))
    assert (box.height, box.width) == (16, round(16 * 4 / 3))
    assert (box.top, box.left) == (0, (400 - box.width) // 2)
    tall = random_box(Random(0), 400, 16, Crop(1.0, 1.0))
    assert (tall.height, tall.width) == (round(16 * 4 / 3), 16)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_without_a_seed_the_middle_is_cut_and_scaled_where_the_frames_are_smaller() -> None:
    clip, small = noise(2, 256, 456), noise(2, 100, 457)
    assert np.array_equal(Cutout(224)(clip), clip[:, 16:240, 116:340])
    assert np.array_equal(Cutout(224)(small), scaled(small[:, :, 178:278], 224))


def test_an_odd_margin_leaves_its_pixel_right_and_below() -> None:
    frame = noise(7, 9)
    assert np.array_equal(centre(frame, 4), frame[1:5, 2:6])


def test_with_a_seed_all_frames_are_cut_to_the_same_drawn_box() -> None:
    frame = noise(30, 40)
    clip = np.stack([frame, frame])
    box = random_box(Random(3), 30, 40, CROP)
    part = clip[:, box.top : box.top + box.height, box.left : box.left + box.width]
    assert box != random_box(Random(4), 30, 40, CROP)
    assert np.array_equal(Cutout(8, 3)(clip), scaled(part, 8))
    assert Cutout(8, 3)(clip).shape == (2, 8, 8, 3)


def test_a_ramp_stays_a_ramp() -> None:
    """Nothing is mirrored or moved."""
    ramp = np.broadcast_to(np.arange(0, 200, 5, dtype=np.uint8)[None, None, :, None], (1, 40, 40, 3))
    done = scaled(ramp[:, :, 10:30], 10)[0, 5, :, 0].astype(float)
    assert done == pytest.approx(5 * (10 + 2 * np.arange(10) + 0.5), abs=1.5)
    assert (np.diff(done) > 0).all()
