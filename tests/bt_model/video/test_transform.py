"""The tensor side of preprocessing against the published numbers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bt_model.video.transform import normalise, normalise_retrieval

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"


def golden(name: str) -> dict[str, Tensor]:
    path = GOLDEN / f"{name}.safetensors"
    if not path.exists():
        pytest.skip("golden data ../shared/golden not found")
    return load_file(path)


def test_normalise_equals_the_published_clip_processor() -> None:
    case = golden("preprocess_chat")
    torch.testing.assert_close(
        normalise(case["expect.resized"]), case["expect.pixel_values"], rtol=0, atol=1e-5
    )


def test_normalise_retrieval_equals_the_published_constants() -> None:
    case = golden("preprocess_retrieval")
    got = normalise_retrieval(case["expect.cropped"])
    torch.testing.assert_close(got, case["expect.normalized"], rtol=0, atol=1e-5)


def test_normalise_puts_each_colour_in_its_own_plane() -> None:
    frames = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    frames[..., 1] = 255
    planes = normalise(frames)[0].mean(dim=(1, 2))
    assert planes.argmax() == 1
