"""How much a mask hides, what is drawn for a sample, and the two layouts. T frames, P patches."""

import pytest
import torch
from torch import Tensor

from bt_model.training.data.sampling import Masks, draw_masks, mask_at, published_layout
from bt_model.training.pretrain.settings import Layout, MaskSettings
from tests.golden import golden_table

T, P = 4, 10
LAYOUTS: tuple[Layout, ...] = ("tube", "published")


def visible_of(masks: Masks) -> Tensor:
    assert masks.visible is not None
    return masks.visible


def tube(count: int, num_patches: int, rate: float, seed: int = 0) -> Tensor:
    return visible_of(draw_masks(MaskSettings(rate=rate), seed, range(count), 2, num_patches))


@pytest.mark.parametrize(("patches", "rate", "visible"), [(256, 0.7, 77), (36, 0.7, 11), (10, 0.99, 1)])
def test_the_hidden_share_is_exact(patches: int, rate: float, visible: int) -> None:
    assert tube(3, patches, rate).shape == (3, visible)


def test_as_much_is_hidden_as_in_the_published_masks() -> None:
    for row in golden_table("tube_masks"):
        visible = tube(row["B"], row["N"], row["mask_rate"])
        assert (
            visible.shape
            == torch.tensor(row["visible_patches"]).shape
            == (row["B"], row["visible_per_frame"])
        )


def test_visible_patches_are_different_and_in_order() -> None:
    mask = tube(20, 36, 0.7)
    assert (mask.diff(dim=1) > 0).all()
    assert mask.min() >= 0
    assert mask.max() < 36


def test_every_clip_has_a_mask_of_its_own() -> None:
    assert len({tuple(row) for row in tube(20, 36, 0.7).tolist()}) == 20


def test_every_patch_is_seen_equally_often() -> None:
    counts = tube(4000, 10, 0.7).flatten().bincount(minlength=10)
    assert (counts - 1200).abs().max() < 120  # four standard deviations


def test_equal_seeds_draw_equal_masks_and_others_others() -> None:
    assert torch.equal(tube(5, 36, 0.7, seed=3), tube(5, 36, 0.7, seed=3))
    assert not torch.equal(tube(5, 36, 0.7, seed=3), tube(5, 36, 0.7, seed=4))


def test_a_mask_is_that_of_its_sample() -> None:
    for layout in ("tube", "published"):
        mask = MaskSettings(rate=0.5, layout=layout)
        whole, half = draw_masks(mask, 3, range(8), T, P), draw_masks(mask, 3, range(4, 8), T, P)
        assert whole.visible is not None
        assert half.visible is not None
        assert torch.equal(whole.visible[4:], half.visible)
        assert torch.equal(whole.pairs[4:], half.pairs)
        assert len({tuple(row) for row in whole.visible.flatten(1).tolist()}) == 8


def test_a_tube_pairs_every_token_with_itself() -> None:
    masks = draw_masks(MaskSettings(rate=0.7), 0, range(3), T, P)
    assert masks.visible is not None
    assert masks.visible.shape == (3, 3)
    assert (masks.visible.diff(dim=1) > 0).all()
    for t in range(T):
        assert torch.equal(masks.pairs[:, t], t * P + masks.visible)


def test_the_published_layout_reads_the_same_patches_in_the_other_order() -> None:
    tube, published = (
        draw_masks(MaskSettings(rate=0.7, layout=layout), 0, range(3), T, P)
        for layout in ("tube", "published")
    )
    assert tube.visible is not None
    hidden = torch.ones(3, T, P, dtype=torch.bool)
    for b, patches in enumerate(tube.visible.tolist()):
        hidden[b, :, patches] = False
    expected = published_layout(hidden.flatten(1), T)
    assert torch.equal(visible_of(published), visible_of(expected))
    assert torch.equal(published.pairs, expected.pairs)


def test_without_a_mask_every_patch_is_compared() -> None:
    masks = draw_masks(MaskSettings(rate=0.0), 0, range(2), T, P)
    assert masks.visible is None
    assert torch.equal(masks.pairs.flatten(1), torch.arange(T * P).expand(2, -1))


def test_the_last_steps_hide_nothing() -> None:
    mask = MaskSettings(rate=0.5, unmasked=0.2)
    assert [mask_at(mask, step, 10).rate for step in range(10)] == [0.5] * 8 + [0.0] * 2
    assert mask_at(MaskSettings(rate=0.5), 9, 10).rate == 0.5


def test_a_tube_in_the_branchs_order_is_a_tube() -> None:
    visible = tube(2, 6, 0.5)
    hidden = torch.ones(2, 6, 4, dtype=torch.bool)  # (B, P, T): patch by patch, the frame fastest
    for clip, numbers in enumerate(visible.tolist()):
        hidden[clip, numbers] = False
    expected = torch.arange(4)[:, None] * 6 + visible[:, None]
    assert torch.equal(visible_of(published_layout(hidden.flatten(1), num_frames=4)), expected)


def test_a_mask_that_was_drawn_frame_by_frame_is_no_tube_in_the_published_layout() -> None:
    visible = tube(1, 6, 0.5)
    hidden = torch.ones(1, 4, 6, dtype=torch.bool)  # (B, T, P), as drawn
    hidden[0, :, visible[0]] = False
    masks = published_layout(hidden.flatten(1), num_frames=4)
    tokens, pairs = visible_of(masks), masks.pairs
    assert tokens.shape == pairs.shape == (1, 4, 3)
    frames, patches = tokens // 6, tokens % 6
    assert not all((patches[0, t] == patches[0, 0]).all() for t in range(4))
    assert (frames[0] != torch.arange(4)[:, None]).any()
    # what the loss compares is the same entry of the mask, read frame by frame: a patch that was drawn
    assert set((pairs % 6).flatten().tolist()) == set(visible[0].tolist())
    flat = pairs.transpose(1, 2).flatten()
    assert torch.equal(flat, (~hidden.flatten()).nonzero()[:, 0])
