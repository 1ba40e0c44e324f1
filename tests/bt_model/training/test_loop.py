"""One stage: its schedule, its log, and resuming after a kill."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bt_model.training.loop import (
    SAVE_EVERY,
    Schedule,
    Trained,
    generator_for,
    metered,
    save_atomically,
    train,
)

STEPS = SAVE_EVERY + 30
SCHEDULE = Schedule(num_steps=STEPS, learning_rate=1e-2)


class KilledError(Exception):
    """Stands for a signal."""


class Stage:
    """Fits a layer to noise that depends on the step alone."""

    def __init__(self, die_at: int = -1) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 3)
        self.die_at = die_at
        self.losses: dict[int, float] = {}

    def loss_at(self, step: int) -> Tensor:
        if step == self.die_at:
            raise KilledError
        x = torch.randn(8, 6, generator=generator_for(3, step))
        loss = (self.layer(x).tanh() - x[:, :3].sign()).square().mean()
        self.losses[step] = loss.item()
        return loss

    def run(self, work: Path) -> Trained:
        return train("fit", {"layer": self.layer}, self.layer.parameters(), SCHEDULE, self.loss_at, work)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    stage = Stage()
    stage.run(tmp_path_factory.mktemp("whole"))
    return stage


def killed_and_resumed(work: Path, die_at: int) -> tuple[Stage, Trained]:
    with pytest.raises(KilledError):
        Stage(die_at).run(work)
    stage = Stage()
    return stage, stage.run(work)


@pytest.mark.parametrize("die_at", [SAVE_EVERY, SAVE_EVERY + 7])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(
    whole: Stage, tmp_path: Path, die_at: int
) -> None:
    stage, _ = killed_and_resumed(tmp_path, die_at)
    assert stage.losses == {step: loss for step, loss in whole.losses.items() if step >= SAVE_EVERY}


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(whole: Stage, tmp_path: Path) -> None:
    stage, _ = killed_and_resumed(tmp_path, SAVE_EVERY + 7)
    assert torch.equal(stage.layer.weight, whole.layer.weight)


def test_a_run_killed_before_its_first_checkpoint_starts_again(whole: Stage, tmp_path: Path) -> None:
    stage, _ = killed_and_resumed(tmp_path, 9)
    assert stage.losses == whole.losses


def test_a_finished_stage_is_only_read_back(whole: Stage, tmp_path: Path) -> None:
    first = Stage().run(tmp_path)
    again = Stage()
    assert again.run(tmp_path) == first
    assert not again.losses
    assert torch.equal(again.layer.weight, whole.layer.weight)


def test_the_log_has_each_step_once_even_after_a_kill(whole: Stage, tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, SAVE_EVERY + 7)
    with (tmp_path / "fit.csv").open(newline="") as file:
        rows = [(int(step), float(loss)) for step, loss, _ in csv.reader(file)]
    assert rows == [(step, pytest.approx(loss, abs=1e-5)) for step, loss in whole.losses.items()]


def test_the_reported_loss_is_the_mean_of_the_last_fifty_even_after_a_kill(
    whole: Stage, tmp_path: Path
) -> None:
    _, trained = killed_and_resumed(tmp_path, SAVE_EVERY + 7)
    last = [whole.losses[step] for step in range(STEPS - 50, STEPS)]
    assert trained.loss == pytest.approx(sum(last) / 50, abs=1e-5)


def test_a_resumed_run_counts_the_time_of_both_sessions(tmp_path: Path) -> None:
    _, trained = killed_and_resumed(tmp_path, SAVE_EVERY + 7)
    saved = torch.load(tmp_path / "fit.ckpt", weights_only=True)["trained"]
    assert trained.wall_seconds == saved[1] > 0


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    schedule = Schedule(num_steps=100, learning_rate=1.0)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[-1] == pytest.approx(0.1, abs=1e-3)


def test_groups_keep_their_own_rates(tmp_path: Path) -> None:
    torch.manual_seed(0)
    moved = list[Tensor]()
    layer = nn.ParameterList([torch.zeros(3), torch.zeros(3)])
    groups = [{"params": [layer[0]]}, {"params": [layer[1]], "lr": 0.0}]

    def loss_at(step: int) -> Tensor:
        moved.append(layer[0].detach().clone())
        return (layer[0] - 1).square().sum() + (layer[1] - 1).square().sum()

    train("fit", {"layer": layer}, groups, Schedule(5, 1e-2), loss_at, tmp_path)
    assert (moved[-1] > 0).all()
    assert torch.equal(layer[1], torch.zeros(3))


def test_a_step_has_a_random_source_of_its_own() -> None:
    drawn = [torch.rand(3, generator=generator_for(seed, step)) for seed in range(3) for step in range(3)]
    assert len({tuple(row.tolist()) for row in drawn}) == 9
    assert torch.equal(drawn[4], torch.rand(3, generator=generator_for(1, 1)))


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save_atomically(path, {"step": 1})
    unpicklable: Callable[[], None] = lambda: None  # noqa: E731 - torch cannot save it
    with pytest.raises(AttributeError):
        save_atomically(path, {"step": unpicklable})
    assert torch.load(path, weights_only=True) == {"step": 1}


def test_the_cost_of_work_without_steps_adds_up_over_sessions(tmp_path: Path) -> None:
    costs = list[float]()
    for _ in range(2):
        with metered(tmp_path / "clips.cost") as cost:
            sum(range(200_000))
        costs.append(cost.cpu_seconds)
    assert costs[1] > costs[0] > 0
