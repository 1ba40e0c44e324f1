import pytest
import torch

from bt_model.training.data.masking import generator_for, published_places, tube_mask


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


def test_a_tube_in_the_branchs_order_is_a_tube() -> None:
    visible = tube_mask(2, 6, 0.5, generator())
    hidden = torch.ones(2, 6, 4, dtype=torch.bool)  # (B, P, T): patch by patch, the frame fastest
    for clip, numbers in enumerate(visible.tolist()):
        hidden[clip, numbers] = False
    places, _ = published_places(hidden.flatten(1), num_frames=4)
    expected = torch.arange(4)[:, None] * 6 + visible[:, None]
    assert torch.equal(places, expected)


def test_a_mask_that_was_drawn_frame_by_frame_is_no_tube_in_the_published_layout() -> None:
    visible = tube_mask(1, 6, 0.5, generator())
    hidden = torch.ones(1, 4, 6, dtype=torch.bool)  # (B, T, P), as drawn
    hidden[0, :, visible[0]] = False
    places, pairs = published_places(hidden.flatten(1), num_frames=4)
    assert places.shape == pairs.shape == (1, 4, 3)
    frames, patches = places // 6, places % 6
    assert not all((patches[0, t] == patches[0, 0]).all() for t in range(4))
    assert (frames[0] != torch.arange(4)[:, None]).any()
    # what the loss compares is the same entry of the mask, read frame by frame: a patch that was drawn
    assert set((pairs % 6).flatten().tolist()) == set(visible[0].tolist())
    flat = pairs.transpose(1, 2).flatten()
    assert torch.equal(flat, (~hidden.flatten()).nonzero()[:, 0])


def test_a_step_has_a_random_source_of_its_own() -> None:
    drawn = [torch.rand(3, generator=generator_for(seed, step)) for seed in range(3) for step in range(3)]
    assert len({tuple(row.tolist()) for row in drawn}) == 9
    assert torch.equal(drawn[4], torch.rand(3, generator=generator_for(1, 1)))
