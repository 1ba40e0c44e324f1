"""The tensor side of preprocessing against the published numbers."""

import torch

from bt_model.video.transform import normalise, normalise_retrieval
from tests.golden import golden_tensors


def test_normalise_equals_the_published_clip_processor() -> None:
    case = golden_tensors("preprocess_chat_rows")
    torch.testing.assert_close(
        normalise(case["expect.resized"]), case["expect.pixel_values"], rtol=0, atol=1e-5
    )


def test_normalise_retrieval_equals_the_published_constants() -> None:
    case = golden_tensors("preprocess_retrieval")
    got = normalise_retrieval(case["expect.cropped"])
    torch.testing.assert_close(got, case["expect.normalized"], rtol=0, atol=1e-5)


def test_normalise_puts_each_colour_in_its_own_plane() -> None:
    frames = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    frames[..., 1] = 255
    planes = normalise(frames)[0].mean(dim=(1, 2))
    assert planes.argmax() == 1
