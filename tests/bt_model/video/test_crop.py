"""The box that a clip is cut to."""

from random import Random

import numpy as np
import pytest

from bt_model.video.crop import Box, Crop, centre_box, cut, random_box

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


def test_the_central_box_is_the_largest_square_up_to_its_side() -> None:
    assert centre_box(256, 456, 224) == Box(16, 116, 224, 224)
    assert centre_box(100, 456, 224) == Box(0, 178, 100, 100)


def test_all_frames_are_cut_to_the_same_box() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    clip = np.stack([frame, frame])
    done = cut(clip, Box(4, 6, 20, 24), 8)
    assert done.shape == (2, 8, 8, 3)
    assert np.array_equal(done[0], done[1])
    assert np.array_equal(cut(clip, Box(4, 6, 8, 8), 8), clip[:, 4:12, 6:14])


def test_a_ramp_stays_a_ramp() -> None:
    """Nothing is mirrored or moved."""
    ramp = np.broadcast_to(np.arange(0, 200, 5, dtype=np.uint8)[None, None, :, None], (1, 40, 40, 3))
    done = cut(np.ascontiguousarray(ramp), Box(0, 10, 40, 20), 10)[0, 5, :, 0].astype(float)
    assert done == pytest.approx(5 * (10 + 2 * np.arange(10) + 0.5), abs=1.5)
    assert (np.diff(done) > 0).all()
