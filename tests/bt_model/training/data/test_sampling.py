"""What is drawn depends on seed and index alone, whatever the processes and the step that a run begins at."""

from dataclasses import replace

import pytest

from bt_model.errors import InvalidValueError
from bt_model.training.data.sampling import SampleOrder, step_seed

ORDER = SampleOrder(num_clips=26, batch=8, accumulate=2, seed=3)


def test_an_epoch_shows_every_clip_once_in_an_order_of_its_own() -> None:
    whole = replace(ORDER, num_clips=24)
    epochs = [
        [
            whole.clip(sample)
            for step in range(e * 3, e * 3 + 3)
            for part in (0, 1)
            for sample in whole.samples(step, part)
        ]
        for e in (0, 1)
    ]
    assert [sorted(epoch) for epoch in epochs] == [list(range(24))] * 2
    assert epochs[0] != epochs[1]


def test_what_is_left_of_an_epoch_is_not_used() -> None:
    assert ORDER.steps_per_epoch == 3
    assert list(ORDER.samples(2, 1)) == [20, 21, 22, 23]
    assert ORDER.samples(3, 0)[0] == 26


@pytest.mark.parametrize("size", [1, 2, 4])
def test_processes_share_the_parts_of_a_step(size: int) -> None:
    ranks = [replace(ORDER, rank=rank, size=size) for rank in range(size)]
    for step, part in ((0, 0), (2, 1), (5, 0)):
        together = [sample for rank in ranks for sample in rank.samples(step, part)]
        assert together == list(ORDER.samples(step, part))


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
        SampleOrder(num_clips, batch, accumulate=2, seed=0, rank=0, size=2)


def test_every_step_part_and_rank_has_a_seed_of_its_own() -> None:
    seeds = {step_seed(1, s, p, r) for s in range(5) for p in range(3) for r in range(3)}
    assert len(seeds) == 45


def test_a_place_knows_its_step() -> None:
    order = SampleOrder(num_clips=11, batch=4, accumulate=2, seed=0, rank=1, size=2)
    for step in range(3 * order.steps_per_epoch):
        for part in range(2):
            assert {order.step(sample) for sample in order.samples(step, part)} == {step}
