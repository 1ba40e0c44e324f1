"""What is drawn depends on seed and place alone, whatever the processes and the step that a run begins at."""

from dataclasses import replace

import pytest
import torch

from bt_model.errors import InvalidValueError
from bt_model.training.data.masking import published_places
from bt_model.training.data.masks import draw_masks
from bt_model.training.data.sampling import Order, step_seed
from bt_model.training.pretrain.config import MaskSettings

ORDER = Order(num_clips=26, batch=8, accumulate=2, seed=3)
T, P = 4, 10


def test_an_epoch_shows_every_clip_once_in_an_order_of_its_own() -> None:
    whole = replace(ORDER, num_clips=24)
    epochs = [
        [
            whole.clip(place)
            for step in range(e * 3, e * 3 + 3)
            for part in (0, 1)
            for place in whole.places(step, part)
        ]
        for e in (0, 1)
    ]
    assert [sorted(epoch) for epoch in epochs] == [list(range(24))] * 2
    assert epochs[0] != epochs[1]


def test_what_is_left_of_an_epoch_is_not_used() -> None:
    assert ORDER.steps_per_epoch == 3
    assert list(ORDER.places(2, 1)) == [20, 21, 22, 23]
    assert ORDER.places(3, 0)[0] == 26


@pytest.mark.parametrize("size", [1, 2, 4])
def test_processes_share_the_parts_of_a_step(size: int) -> None:
    ranks = [replace(ORDER, rank=rank, size=size) for rank in range(size)]
    for step, part in ((0, 0), (2, 1), (5, 0)):
        together = [place for rank in ranks for place in rank.places(step, part)]
        assert together == list(ORDER.places(step, part))


def test_another_clip_takes_a_broken_ones_place_by_seed_and_attempt() -> None:
    tried = [ORDER.clip(5, attempt) for attempt in range(20)]
    assert tried == [replace(ORDER, rank=1, size=2).clip(5, attempt) for attempt in range(20)]
    assert len(set(tried)) > 8
    assert tried != [replace(ORDER, seed=4).clip(5, attempt) for attempt in range(20)]


@pytest.mark.parametrize(("batch", "num_clips"), [(6, 26), (8, 7)])
def test_a_batch_that_cannot_be_shared_or_filled_is_refused(batch: int, num_clips: int) -> None:
    with pytest.raises(
        InvalidValueError, match=f"optimiser.batch is {batch}; allowed: a multiple of 4 .*, up to"
    ):
        Order(num_clips, batch, accumulate=2, seed=0, rank=0, size=2)


def test_a_mask_is_that_of_its_place() -> None:
    for layout in ("tube", "published"):
        mask = MaskSettings(0.5, layout)
        whole, half = draw_masks(mask, 3, range(8), T, P), draw_masks(mask, 3, range(4, 8), T, P)
        assert whole.visible is not None
        assert half.visible is not None
        assert torch.equal(whole.visible[4:], half.visible)
        assert torch.equal(whole.pairs[4:], half.pairs)
        assert len({tuple(row) for row in whole.visible.flatten(1).tolist()}) == 8


def test_a_tube_pairs_every_token_with_itself() -> None:
    masks = draw_masks(MaskSettings(0.7), 0, range(3), T, P)
    assert masks.visible is not None
    assert masks.visible.shape == (3, 3)
    assert (masks.visible.diff(dim=1) > 0).all()
    for t in range(T):
        assert torch.equal(masks.pairs[:, t], t * P + masks.visible)


def test_the_published_layout_reads_the_same_patches_in_the_other_order() -> None:
    tube, published = (
        draw_masks(MaskSettings(0.7, layout), 0, range(3), T, P) for layout in ("tube", "published")
    )
    assert tube.visible is not None
    hidden = torch.ones(3, T, P, dtype=torch.bool)
    for b, patches in enumerate(tube.visible.tolist()):
        hidden[b, :, patches] = False
    visible, pairs = published_places(hidden.flatten(1), T)
    assert published.visible is not None
    assert torch.equal(published.visible, visible)
    assert torch.equal(published.pairs, pairs)


def test_without_a_mask_every_patch_is_compared() -> None:
    masks = draw_masks(MaskSettings(0.0), 0, range(2), T, P)
    assert masks.visible is None
    assert torch.equal(masks.pairs.flatten(1), torch.arange(T * P).expand(2, -1))


def test_every_step_part_and_rank_has_a_seed_of_its_own() -> None:
    seeds = {step_seed(1, s, p, r) for s in range(5) for p in range(3) for r in range(3)}
    assert len(seeds) == 45


def test_a_place_knows_its_step() -> None:
    order = Order(num_clips=11, batch=4, accumulate=2, seed=0, rank=1, size=2)
    for step in range(3 * order.steps_per_epoch):
        for part in range(2):
            assert {order.step(place) for place in order.places(step, part)} == {step}
