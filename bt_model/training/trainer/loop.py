"""One training loop for every stage: steps, log, atomic checkpoints, exact resume, any number of ranks.

A stage is a function of the step number and of the part of the step, so a resumed run computes the same as an
uninterrupted one.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from bt_model.errors import CheckpointError, TrainingError
from bt_model.training.data.loader import B, B_co
from bt_model.training.data.sampling import step_seed
from bt_model.training.trainer.checkpoint import Checkpoints, gathered, restore, restore_optimiser
from bt_model.training.trainer.cost import peak_flops
from bt_model.training.trainer.log import StepLog, peak_memory_bytes
from bt_model.training.trainer.optimiser import Schedule, loss_scaler, multiplying_in
from bt_model.training.trainer.parallel import Synced, World, always_synced

if TYPE_CHECKING:
    from torch import Tensor

SAVE_EVERY = 100
SMALLEST_SCALE = 2.0**-10  # of float16; below it, an overflow means that training has diverged


@dataclass(slots=True)
class Trained:
    """What a run cost: CPU seconds and wall seconds over all its sessions, and its last mean loss."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    loss: float = math.nan


@dataclass(frozen=True, slots=True)
class StepResult:
    """One part of a step: the loss to descend, the losses that it is the sum of, and what its batch cost.

    `losses` are logged beside the loss; `num_clips` and `num_skipped` count this rank's clips of this part.
    """

    loss: "Tensor"
    losses: "Mapping[str, Tensor]" = field(default_factory=dict[str, "Tensor"])
    num_clips: int = 0
    waited_seconds: float = 0.0
    num_skipped: int = 0


ResultAt = Callable[[int, int], StepResult]  # of a step, and of a part of it


class BatchSource(Protocol[B_co]):
    """Gives the batch of a part of a step, which depends on these two numbers alone."""

    def batch(self, step: int, part: int = 0) -> B_co: ...


def results_from(
    batches: BatchSource[B], losses_of: "Callable[[B], Mapping[str, Tensor]]", world: World, seed: int
) -> ResultAt:
    """Read a batch, compute its losses on this process's device, add them up."""

    def result_at(step: int, part: int) -> StepResult:
        begin = time.monotonic()
        with torch.autocast("cpu", enabled=False):  # which cannot join float16 tensors, as stored states are
            batch = batches.batch(step, part)
        waited = time.monotonic() - begin
        torch.manual_seed(step_seed(seed, step, part, world.rank))  # stochastic depth
        losses = losses_of(batch.to(world.device))
        total = torch.stack(list(losses.values())).sum()
        logged = losses if len(losses) > 1 else {}
        return StepResult(total, logged, len(batch), waited, batch.num_skipped)

    return result_at


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A stage: modules to save, parameters to train, schedule and losses.

    `result_at(step, part)` must draw whatever is random from the two numbers alone. `groups` are AdamW's:
    dictionaries of `params`, and where wanted `lr`, `weight_decay` and `name`; a rate is the peak, the
    schedule's factor is applied to all. `synced` is that of `spread`. With `flops_per_clip`, asked once the
    first step is done, the log has the model FLOP utilisation. `histograms` are logged with each checkpoint.
    With `stop_after` the run ends after so many steps, and can go on later.
    """

    name: str
    modules: Mapping[str, nn.Module]
    groups: Sequence[Mapping[str, Any]]
    schedule: Schedule
    result_at: ResultAt
    work: Path
    world: World = field(default_factory=World)
    synced: Synced = always_synced
    save_every: int = SAVE_EVERY
    keep: int = 1
    stop_after: int | None = None
    flops_per_clip: Callable[[], float] | None = None
    with_events: bool = False
    histograms: "Mapping[str, Callable[[], Tensor]]" = field(
        default_factory=dict[str, "Callable[[], Tensor]"]
    )

    @property
    def num_steps(self) -> int:
        """The step at which this run ends."""
        end = self.schedule.num_steps
        return end if self.stop_after is None else min(end, self.stop_after)


class Session:
    """One run of a job on one rank; all ranks make the same calls in the same order."""

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        schedule = job.schedule
        self._optimiser = torch.optim.AdamW(
            [dict(group) for group in job.groups], lr=schedule.learning_rate, betas=schedule.betas,
            weight_decay=schedule.weight_decay, eps=schedule.eps,
        )  # fmt: skip
        groups = self._optimiser.param_groups
        self._peaks: list[float] = [group["lr"] for group in groups]
        self._learning: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self._scaler = loss_scaler(schedule.precision, job.world.device.type)
        self._checkpoints = Checkpoints(job.work, job.name, job.keep)
        self._clock = time.process_time(), time.monotonic()
        self.trained = Trained()

    def step(self, step: int) -> dict[str, float]:
        """One optimisation step; returns its row of the log.

        Raises:
            TrainingError: the loss is not a number any more.
        """
        begin = time.monotonic()
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self.job.schedule.factor(step)
        self._optimiser.zero_grad(set_to_none=True)
        results = self._descend(step)
        self._scaler.unscale_(self._optimiser)
        norm = nn.utils.clip_grad_norm_(self._learning, self.job.schedule.clip_norm)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        row = self._row(results, _number(norm), begin)
        self._check(step, row["loss"])
        return row

    def _descend(self, step: int) -> list[StepResult]:
        """Forward and backward passes of all parts; gradients are those of the parts' mean loss."""
        schedule, results = self.job.schedule, list[StepResult]()
        for part in range(schedule.accumulate):
            with self.job.synced(part + 1 == schedule.accumulate):
                with multiplying_in(schedule.precision, self.job.world.device.type):
                    one = self.job.result_at(step, part)
                self._scaler.scale(one.loss / schedule.accumulate).backward()
            results.append(one)
        return results

    def _check(self, step: int, loss: float) -> None:
        """Raise if the loss is not finite, except for occasional float16 overflows, which skip the step."""
        scale = self._scaler.get_scale()
        if scale >= SMALLEST_SCALE if self._scaler.is_enabled() else math.isfinite(loss):
            return
        at = f" at a loss scale of {scale:g}" if self._scaler.is_enabled() else ""
        raise TrainingError(
            f"the loss of step {step} is {loss}{at}; a lower rate may help, or another precision"
        )

    def _row(self, results: Sequence[StepResult], norm: float, begin: float) -> dict[str, float]:
        """A row of the log: losses are means over parts and ranks; speed is this rank's."""
        world, num_clips = self.job.world, sum(one.num_clips for one in results)
        losses = {"loss": [one.loss for one in results]}
        losses |= {name: [one.losses[name] for one in results] for name in results[0].losses}
        means = [float(torch.stack([x.detach() for x in xs]).mean()) for xs in losses.values()]
        seconds = time.monotonic() - begin
        waited = sum(one.waited_seconds for one in results) / seconds
        skipped = float(sum(one.num_skipped for one in results))
        *summed, memory, waited, skipped = world.sums(
            [*means, peak_memory_bytes(world.device) / 1e6, waited, skipped]
        )
        row = {name: value / world.size for name, value in zip(losses, summed, strict=True)}
        row |= {f"lr/{name}": rate for name, rate in self._rates().items()}
        row["grad_norm"] = norm
        if self._scaler.is_enabled():
            row["loss_scale"] = self._scaler.get_scale()
        row |= {"seconds": seconds, "memory_mb": memory / world.size}
        if num_clips:
            row |= {
                "clips_per_second": num_clips / seconds,
                "data_wait": waited / world.size,
                "skipped": skipped,
            }
        if num_clips and self.job.flops_per_clip is not None:
            row["mfu"] = self._utilisation_per_clip * num_clips / seconds
        return row

    @cached_property
    def _utilisation_per_clip(self) -> float:
        """How much of its arithmetic in a second this process's device needs for a clip."""
        assert self.job.flops_per_clip is not None
        return self.job.flops_per_clip() / peak_flops(self.job.world.device, self.job.schedule.precision)

    def _rates(self) -> dict[str, float]:
        """Learning rates by the groups' names, or numbers."""
        groups = enumerate(self._optimiser.param_groups)
        return {str(group.get("name", number)): group["lr"] for number, group in groups}

    def histograms(self) -> "dict[str, Tensor]":
        """The job's, whole and on the CPU; nothing is there on other ranks than the first."""
        with torch.no_grad():
            values = {name: read() for name, read in self.job.histograms.items()}
        return gathered(values, keep=self.job.world.is_first)

    def save(self, step: int) -> None:
        """Write a checkpoint after `step` steps; tensors are gathered from all ranks, rank 0 writes."""
        cpu, wall = time.process_time(), time.monotonic()
        self.trained.cpu_seconds += cpu - self._clock[0]
        self.trained.wall_seconds += wall - self._clock[1]
        self._clock = cpu, wall
        keep = self.job.world.is_first
        modules = {n: gathered(module.state_dict(), keep=keep) for n, module in self.job.modules.items()}
        payload = {
            "step": step,
            "modules": modules,
            "optimiser": gathered(self._optimiser.state_dict(), keep=keep),
            "scaler": self._scaler.state_dict(),
            "trained": [self.trained.cpu_seconds, self.trained.wall_seconds, self.trained.loss],
        }
        if keep:
            self._checkpoints.write(step, payload)
        self.job.world.wait()

    def resume(self) -> int:
        """Restore the last checkpoint that rank 0 finds; returns the number of steps done.

        Raises:
            CheckpointError: a checkpoint that cannot be read, or of another job.
        """
        step = self.job.world.first_says(max(self._checkpoints.steps(), default=0))
        if not step:
            return 0
        payload, where = self._checkpoints.read(step), str(self._checkpoints.path(step))
        try:
            for name, module in self.job.modules.items():
                restore(module, payload["modules"][name], where)
            restore_optimiser(self._optimiser, payload["optimiser"])
            self._scaler.load_state_dict(payload["scaler"])
            self.trained = Trained(*payload["trained"])
        except KeyError as error:
            raise CheckpointError(f"{where}: of another run, or another version: it lacks {error}") from error
        return step


def _number(norm: "Tensor") -> float:
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def run(job: TrainingJob) -> Trained:
    """Run a job to its end, from its last checkpoint if there is one; all ranks call it together.

    The mean loss in what is returned is known to the first rank alone.

    Raises:
        TrainingError: the loss is not a number any more.
        CheckpointError: the last checkpoint is not of this job.
    """
    session = Session(job)
    start = session.resume()
    if start >= job.num_steps:
        return session.trained
    log = StepLog(job.work, job.name, start, with_events=job.with_events) if job.world.is_first else None
    with nullcontext() if log is None else log.shown(job.num_steps):
        for step in range(start, job.num_steps):
            row = session.step(step)
            if log is not None:
                log.write(step, row)
                session.trained.loss = log.mean_loss
            if (step + 1) % job.save_every == 0 or step + 1 == job.num_steps:
                values = session.histograms()
                if log is not None:
                    log.write_histograms(step, values)
                session.save(step + 1)
    return session.trained
