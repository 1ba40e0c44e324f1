"""One training loop for every stage: steps, log, atomic checkpoints, exact resume, any number of ranks.

A stage is a function of the step number and of the part of the step, so a resumed run sees what an
uninterrupted one would have seen.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from bt_model.errors import TrainingError
from bt_model.training.trainer.checkpoint import Checkpoints, gathered, restore, restore_optimiser
from bt_model.training.trainer.cost import Trained, peak_flops
from bt_model.training.trainer.log import StepLog, StepProgress, peak_memory_bytes
from bt_model.training.trainer.optimiser import Schedule
from bt_model.training.trainer.parallel import Synced, World, always_synced
from bt_model.training.trainer.precision import loss_scaler, multiplying_in
from bt_model.training.trainer.results import ResultAt, StepResult

if TYPE_CHECKING:
    from torch import Tensor

SAVE_EVERY = 100


@dataclass(frozen=True, slots=True)
class Job:
    """What is saved, what learns, how long, and from which losses.

    `result_at(step, part)` must draw whatever is random from the two numbers alone. `groups` are AdamW's:
    dictionaries of `params`, and where wanted `lr`, `weight_decay` and `name`; a rate is the peak, the
    schedule's factor is applied to all. `synced` is that of `spread`. With `flops_per_clip` the log has the
    model FLOP utilisation; `watched` values become histograms. With `stop_after` the run ends after so many
    steps, and can go on later.
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
    flops_per_clip: float = 0.0
    with_events: bool = False
    watched: "Mapping[str, Callable[[], Tensor]]" = field(default_factory=dict[str, "Callable[[], Tensor]"])

    @property
    def num_steps(self) -> int:
        """Where this run ends."""
        end = self.schedule.num_steps
        return end if self.stop_after is None else min(end, self.stop_after)


SMALLEST_SCALE = 2.0**-10  # of float16: no gradient is that large
AVERAGED = 50  # steps in the mean loss that is shown


class Session:
    """One run of a job in one process; all ranks make the same calls in the same order."""

    def __init__(self, job: Job) -> None:
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
        self._flops = peak_flops(job.world.device, schedule.precision) if job.flops_per_clip else 0.0
        self._clock = time.process_time(), time.monotonic()
        self.trained = Trained()
        self.recent: list[float] = []

    def step(self, step: int) -> dict[str, float]:
        """One optimisation step; what the log says of it.

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
        self.recent = [*self.recent, row["loss"]][-AVERAGED:]
        self.trained.loss = sum(self.recent) / len(self.recent)
        return row

    def _descend(self, step: int) -> list[StepResult]:
        """Forward and backward passes of all parts; gradients become those of the parts' mean loss."""
        schedule, results = self.job.schedule, list[StepResult]()
        for part in range(schedule.accumulate):
            with self.job.synced(part + 1 == schedule.accumulate):
                with multiplying_in(schedule.precision, self.job.world.device.type):
                    one = self.job.result_at(step, part)
                self._scaler.scale(one.loss / schedule.accumulate).backward()
            results.append(one)
        return results

    def _check(self, step: int, loss: float) -> None:
        """float16 may overflow once in a while, and such a step is not taken; the other formats may not."""
        scale = self._scaler.get_scale()
        if scale >= SMALLEST_SCALE if self._scaler.is_enabled() else math.isfinite(loss):
            return
        at = f" at a loss scale of {scale:g}" if self._scaler.is_enabled() else ""
        raise TrainingError(
            f"the loss of step {step} is {loss}{at}; a lower rate may help, or another precision"
        )

    def _row(self, results: Sequence[StepResult], norm: float, begin: float) -> dict[str, float]:
        """Losses are means over parts and ranks; speed is this rank's, which every rank shares."""
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
        if num_clips and self._flops:
            row["mfu"] = self.job.flops_per_clip * num_clips / seconds / self._flops
        return row

    def _rates(self) -> dict[str, float]:
        """Learning rates by the groups' names, or numbers."""
        groups = enumerate(self._optimiser.param_groups)
        return {str(group.get("name", number)): group["lr"] for number, group in groups}

    def watched(self) -> "dict[str, Tensor]":
        """What the job watches, whole and on the CPU; nothing is there on other ranks than the first."""
        with torch.no_grad():
            values = {name: read() for name, read in self.job.watched.items()}
        return gathered(values, keep=self.job.world.is_first)

    def save(self, step: int) -> None:
        """Write a checkpoint after `step` steps; tensors come from all ranks, the first one writes."""
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
        """Restore the last checkpoint that the first rank sees; the number of steps that are done.

        Raises:
            CheckpointError: a checkpoint that cannot be read, or of another job.
        """
        step = self.job.world.first_says(max(self._checkpoints.steps(), default=0))
        if not step:
            return 0
        payload = self._checkpoints.read(step)
        for name, module in self.job.modules.items():
            restore(module, payload["modules"][name], str(self._checkpoints.path(step)))
        restore_optimiser(self._optimiser, payload["optimiser"])
        self._scaler.load_state_dict(payload["scaler"])
        self.trained = Trained(*payload["trained"])
        return step


def _number(norm: "Tensor") -> float:
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def run(job: Job) -> Trained:
    """Run a job to its end, from its last checkpoint if there is one; all ranks call it together.

    Raises:
        TrainingError: the loss is not a number any more.
        CheckpointError: the last checkpoint is not of this job.
    """
    session = Session(job)
    start = session.resume()
    if start >= job.num_steps:
        return session.trained
    log = StepLog(job.work, job.name, start, with_events=job.with_events) if job.world.is_first else None
    if log is not None:
        session.recent = [row["loss"] for row in log.kept[-AVERAGED:]]
    try:
        with StepProgress(job.name, job.num_steps, start, is_shown=log is not None) as progress:
            for step in range(start, job.num_steps):
                row = session.step(step)
                if log is not None:
                    log.write(step, row)
                progress.update(step + 1, _note(session.trained.loss, row))
                if (step + 1) % job.save_every == 0 or step + 1 == job.num_steps:
                    seen = session.watched()
                    if log is not None:
                        log.watch(step, seen)
                        log.flush()
                    session.save(step + 1)
    finally:
        if log is not None:
            log.close()
    return session.trained


def _note(loss: float, row: Mapping[str, float]) -> str:
    speed = f", {row['clips_per_second']:.1f} clips/s" if "clips_per_second" in row else ""
    return f"loss {loss:.3f}{speed}" + (f", MFU {row['mfu']:.0%}" if "mfu" in row else "")
