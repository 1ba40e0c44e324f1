"""How the tower goes through images."""

import pytest
import torch
from torch import Tensor

from bt_model.vision import clip
from bt_model.vision.clip import ClipVisionTower
from tests import tiny


@pytest.mark.parametrize("num_bytes", [1, 3 * 10 * 48 * 4], ids=["one by one", "three at a time"])
def test_a_tower_that_serves_takes_images_in_pieces(num_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vision, images, sizes = tiny.tower(), torch.randn(7, 3, tiny.SIDE, tiny.SIDE), list[int]()
    expected = vision(images, [0, 3])
    monkeypatch.setattr(clip, "_CACHED_BYTES", num_bytes)

    def embed(tower: ClipVisionTower, pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        return original(tower, pixels)

    original = ClipVisionTower.embed
    monkeypatch.setattr(ClipVisionTower, "embed", embed)
    with torch.inference_mode():
        states = vision(images, [0, 3])
    assert sum(sizes) == 7
    assert max(sizes) == (1 if num_bytes == 1 else 3)
    for mine, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
