"""One stage: its schedule, its log, and resuming after a kill."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bt_model.errors import CheckpointError, TrainingError
from bt_model.training.trainer.log import read_rows
from bt_model.training.trainer.loop import SAVE_EVERY, StepResult, Trained, TrainingJob, run
from bt_model.training.trainer.optimiser import Schedule
from tests.bt_model.training.ranks import run_ranks, write_overflows

pytestmark = pytest.mark.usefixtures("forked_ranks")

STEPS = SAVE_EVERY + 30
SCHEDULE = Schedule(num_steps=STEPS, learning_rate=1e-2)


def noise(step: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(step))


class KilledError(Exception):
    """Stands for a signal."""


class Stage:
    """Fits a layer to noise that depends on the step alone."""

    def __init__(self, die_at: int = -1) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 3)
        self.die_at = die_at
        self.losses: dict[int, float] = {}

    def result_at(self, step: int, _part: int) -> StepResult:
        if step == self.die_at:
            raise KilledError
        x = noise(step, 8, 6)
        loss = (self.layer(x).tanh() - x[:, :3].sign()).square().mean()
        self.losses[step] = loss.item()
        return StepResult(loss)

    def run(self, work: Path) -> Trained:
        groups = [{"params": list(self.layer.parameters())}]
        return run(TrainingJob("fit", {"layer": self.layer}, groups, SCHEDULE, self.result_at, work))


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


@pytest.mark.parametrize("lost", ["scaler", "layer"])
def test_a_checkpoint_of_another_version_or_run_is_refused(tmp_path: Path, lost: str) -> None:
    Stage().run(tmp_path)
    path = tmp_path / f"fit-{STEPS:08d}.ckpt"
    payload = torch.load(path, weights_only=True)
    for mapping in (payload, payload["modules"]):
        mapping.pop(lost, None)
    torch.save(payload, path)
    with pytest.raises(
        CheckpointError, match=f"{path}: of another run, or another version: it lacks '{lost}'"
    ):
        Stage().run(tmp_path)


def test_a_finished_stage_is_only_read_back(whole: Stage, tmp_path: Path) -> None:
    first = Stage().run(tmp_path)
    again = Stage()
    assert again.run(tmp_path) == first
    assert not again.losses
    assert torch.equal(again.layer.weight, whole.layer.weight)


def test_the_log_has_each_step_once_even_after_a_kill(whole: Stage, tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, SAVE_EVERY + 7)
    rows = [(row["step"], row["loss"]) for row in read_rows(tmp_path / "fit.csv")]
    assert rows == [(step, pytest.approx(loss, rel=1e-8)) for step, loss in whole.losses.items()]


def test_the_reported_loss_is_the_mean_of_the_last_fifty_even_after_a_kill(
    whole: Stage, tmp_path: Path
) -> None:
    _, trained = killed_and_resumed(tmp_path, SAVE_EVERY + 7)
    last = [whole.losses[step] for step in range(STEPS - 50, STEPS)]
    assert trained.loss == pytest.approx(sum(last) / 50, abs=1e-5)


def test_a_resumed_run_counts_the_time_of_both_sessions(tmp_path: Path) -> None:
    _, trained = killed_and_resumed(tmp_path, SAVE_EVERY + 7)
    saved = torch.load(tmp_path / f"fit-{STEPS:08d}.ckpt", weights_only=True)["trained"]
    assert trained.wall_seconds == saved[1] > 0


def test_a_run_counts_its_own_cpu_seconds(tmp_path: Path) -> None:
    before = time.process_time()
    trained = Stage().run(tmp_path)
    assert 0 < trained.cpu_seconds <= time.process_time() - before


def test_groups_keep_their_own_rates(tmp_path: Path) -> None:
    torch.manual_seed(0)
    moved = list[Tensor]()
    layer = nn.ParameterList([torch.zeros(3), torch.zeros(3)])
    groups = [{"params": [layer[0]]}, {"params": [layer[1]], "lr": 0.0}]

    def result_at(_step: int, _part: int) -> StepResult:
        moved.append(layer[0].detach().clone())
        return StepResult((layer[0] - 1).square().sum() + (layer[1] - 1).square().sum())

    run(TrainingJob("fit", {"layer": layer}, groups, Schedule(5, 1e-2), result_at, tmp_path))
    assert (moved[-1] > 0).all()
    assert torch.equal(layer[1], torch.zeros(3))


def job(work: Path, schedule: Schedule, stage: Stage) -> TrainingJob:
    """The stage in parts: a part's loss is that of its share of the batch."""

    def result_at(step: int, part: int) -> StepResult:
        x = noise(step, 8, 6).chunk(schedule.accumulate)[part]
        miss = (stage.layer(x).tanh() - x[:, :3].sign()).square()
        return StepResult(miss.mean(), {"first": miss[:, 0].mean()}, num_clips=len(x))

    groups = [{"params": [stage.layer.weight], "name": "weight"}, {"params": [stage.layer.bias], "lr": 1e-3}]
    return TrainingJob(
        "fit", {"layer": stage.layer}, groups, schedule, result_at, work, flops_per_clip=lambda: 36.0, keep=2
    )


def test_parts_of_a_step_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    for accumulate, name in ((1, "whole"), (4, "parts")):
        stage = Stage()
        run(job(tmp_path / name, replace(SCHEDULE, num_steps=20, accumulate=accumulate), stage))
    whole, parts = (read_rows(tmp_path / name / "fit.csv") for name in ("whole", "parts"))
    for name in ("loss", "first", "grad_norm"):
        assert [row[name] for row in parts] == pytest.approx([row[name] for row in whole], rel=1e-4)


def test_every_step_tells_losses_rates_norm_speed_utilisation_and_memory(tmp_path: Path) -> None:
    run(job(tmp_path, replace(SCHEDULE, num_steps=3), Stage()))
    row = read_rows(tmp_path / "fit.csv")[-1]
    assert row["lr/weight"] == pytest.approx(10 * row["lr/1"])
    assert row["clips_per_second"] * row["seconds"] == pytest.approx(8)
    assert 0 < row["mfu"] < 1
    assert row["memory_mb"] > 10
    assert {"loss", "first", "grad_norm", "data_wait", "skipped"} <= set(row)


def test_gradients_are_cut_to_the_allowed_norm_and_the_whole_norm_is_told(tmp_path: Path) -> None:
    stage = Stage()
    run(job(tmp_path, replace(SCHEDULE, num_steps=2, clip_norm=1e-3), stage))
    gradients = [p.grad for p in stage.layer.parameters() if p.grad is not None]
    assert torch.stack([g.norm() for g in gradients]).norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert all(row["grad_norm"] > 1e-2 for row in read_rows(tmp_path / "fit.csv"))


def test_the_last_checkpoints_are_kept_and_older_ones_removed(tmp_path: Path) -> None:
    run(replace(job(tmp_path, replace(SCHEDULE, num_steps=12), Stage()), save_every=3))
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["fit-00000009.ckpt", "fit-00000012.ckpt"]


def test_a_loss_that_is_no_number_ends_the_run_and_is_not_saved(tmp_path: Path) -> None:
    good = job(tmp_path, replace(SCHEDULE, num_steps=12), Stage())

    def result_at(step: int, part: int) -> StepResult:
        result = good.result_at(step, part)
        return replace(result, loss=result.loss * float("nan")) if step == 5 else result

    with pytest.raises(TrainingError, match="loss of step 5 is nan"):
        run(replace(good, result_at=result_at, save_every=1))
    assert max(path.name for path in tmp_path.glob("*.ckpt")) == "fit-00000005.ckpt"


def test_float16_that_overflows_again_and_again_ends_the_run(tmp_path: Path) -> None:
    good = job(tmp_path, replace(SCHEDULE, num_steps=60, precision="float16"), Stage())

    def result_at(step: int, part: int) -> StepResult:
        result = good.result_at(step, part)
        return replace(result, loss=result.loss * 1e38)

    # from 2 to the 16th, halved 27 times
    with pytest.raises(TrainingError, match=r"loss of step 26 is .* at a loss scale of 0\.000488281;"):
        run(replace(good, result_at=result_at))


def test_float16_skips_steps_that_overflow_and_keeps_its_scale_over_a_resume(tmp_path: Path) -> None:
    def overflowing(stage: Stage) -> TrainingJob:
        good = job(tmp_path, replace(SCHEDULE, num_steps=8, precision="float16"), stage)

        def result_at(step: int, part: int) -> StepResult:
            result = good.result_at(step, part)
            return replace(result, loss=result.loss * 1e36) if step in (2, 6) else result

        return replace(good, result_at=result_at, save_every=4)

    whole, resumed = Stage(), Stage()
    run(overflowing(whole))
    scales = [row["loss_scale"] for row in read_rows(tmp_path / "fit.csv")]
    assert scales == [2.0**16] * 2 + [2.0**15] * 4 + [2.0**14] * 2
    assert torch.isfinite(whole.layer.weight).all()
    (tmp_path / "fit-00000008.ckpt").unlink()
    run(overflowing(resumed))
    assert [row["loss_scale"] for row in read_rows(tmp_path / "fit.csv")] == scales
    assert torch.equal(whole.layer.weight, resumed.layer.weight)


def test_an_overflow_in_one_ranks_shard_is_skipped_by_all(tmp_path: Path) -> None:
    run_ranks(write_overflows, 2, tmp_path)
    assert [row["loss_scale"] for row in read_rows(tmp_path / "fit.csv")] == [2.0**16] * 2 + [2.0**15] * 2
    weight = torch.load(tmp_path / "fit-00000004.ckpt", weights_only=True)["modules"]["layer"]["weight"]
    assert weight.isfinite().all()
