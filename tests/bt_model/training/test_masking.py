import pytest
import torch

from bt_model.training.masking import tube_mask


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("patches", "rate", "visible"), [(256, 0.7, 77), (36, 0.7, 11), (9, 0.0, 9), (10, 0.99, 1)]
)
def test_the_hidden_share_is_exact(patches: int, rate: float, visible: int) -> None:
    assert tube_mask(3, patches, rate, generator()).shape == (3, visible)


def test_visible_patches_are_different_and_in_order() -> None:
    mask = tube_mask(20, 36, 0.7, generator())
    assert (mask.diff(dim=1) > 0).all()
    assert mask.min() >= 0
    assert mask.max() < 36


def test_every_clip_has_a_mask_of_its_own() -> None:
    assert len({tuple(row) for row in tube_mask(20, 36, 0.7, generator()).tolist()}) == 20


def test_every_patch_is_seen_equally_often() -> None:
    counts = tube_mask(4000, 10, 0.7, generator()).flatten().bincount(minlength=10)
    assert (counts - 1200).abs().max() < 120  # four standard deviations


def test_equal_generators_draw_equal_masks() -> None:
    assert torch.equal(tube_mask(5, 36, 0.7, generator(3)), tube_mask(5, 36, 0.7, generator(3)))
