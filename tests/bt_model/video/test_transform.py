"""The tensor side of preprocessing against the published numbers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bt_model.video.sample import uniform
from bt_model.video.transform import (
    centre_crop,
    normalise,
    normalise_retrieval,
    resize_short_side,
    squash_nearest,
)

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"


def golden(name: str) -> dict[str, Tensor]:
    path = GOLDEN / f"{name}.safetensors"
    if not path.exists():
        pytest.skip("golden data ../shared/golden not found")
    return load_file(path)


def test_squash_nearest_equals_the_published_resize_exactly() -> None:
    case = golden("preprocess_chat")
    frames = case["input.frames"]
    chosen = frames[uniform(len(frames), 1)]
    torch.testing.assert_close(squash_nearest(chosen), case["expect.resized"], rtol=0, atol=0)


def test_normalise_equals_the_published_clip_processor() -> None:
    case = golden("preprocess_chat")
    torch.testing.assert_close(
        normalise(case["expect.resized"]), case["expect.pixel_values"], rtol=0, atol=1e-5
    )


def test_resize_short_side_is_within_one_grey_level_of_the_published_resize() -> None:
    case = golden("preprocess_retrieval")
    got, expected = resize_short_side(case["input.frames"], 64), case["expect.resized"]
    assert got.shape == expected.shape
    assert (got.int() - expected.int()).abs().max() <= 1


def test_the_long_side_is_rounded_to_nearest() -> None:
    frames = torch.zeros(1, 360, 640, 3, dtype=torch.uint8)
    assert resize_short_side(frames, 256).shape[1:3] == (256, 455)  # 455.11
    assert resize_short_side(frames.transpose(1, 2), 224).shape[1:3] == (398, 224)  # 398.22
    assert resize_short_side(frames[:, :, :482], 256).shape[1:3] == (256, 343)  # 342.76


def test_centre_crop_equals_the_published_crop() -> None:
    case = golden("preprocess_retrieval")
    torch.testing.assert_close(
        centre_crop(case["expect.resized"], 56), case["expect.cropped"], rtol=0, atol=0
    )


def test_normalise_retrieval_equals_the_published_constants() -> None:
    case = golden("preprocess_retrieval")
    got = normalise_retrieval(case["expect.cropped"])
    torch.testing.assert_close(got, case["expect.normalized"], rtol=0, atol=1e-5)


def test_frames_of_the_right_size_are_not_resized() -> None:
    frames = torch.randint(0, 256, (2, 224, 224, 3), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    assert squash_nearest(frames) is frames


def test_normalise_puts_each_colour_in_its_own_plane() -> None:
    frames = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    frames[..., 1] = 255
    planes = normalise(frames)[0].mean(dim=(1, 2))
    assert planes.argmax() == 1
