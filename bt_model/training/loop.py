"""One training loop for every stage: steps, schedule, log, atomic checkpoints, exact resume.

A stage is a function of the step number: `loss_at(step)` draws its batch from the step's own generator, so a
resumed run sees what an uninterrupted one would have seen.
"""

import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from bt_model.training.precision import Precision, multiplying_in

if TYPE_CHECKING:
    from torch import Tensor

SAVE_EVERY = 100
WARMUP_SHARE = 0.05
AVERAGED = 50  # steps in the mean loss that is shown


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length, peak learning rate, decay and number format of a stage; warm-up, then cosine to a tenth."""

    num_steps: int
    learning_rate: float
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    precision: Precision = "float32"

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at a step."""
        warmup = max(1, int(WARMUP_SHARE * self.num_steps))
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, self.num_steps - warmup)
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done))


def generator_for(seed: int, step: int) -> torch.Generator:
    """The random source of one step: a function of the two numbers only."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def save_atomically(path: Path, payload: dict[str, Any]) -> None:
    """Write a training checkpoint so that a crash leaves the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(payload, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@dataclass(slots=True)
class Trained:
    """What a stage cost: CPU seconds and wall seconds over all its sessions, and its last mean loss."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    loss: float = math.nan


@contextmanager
def metered(path: Path) -> Generator[Trained]:
    """Add what a block costs to what earlier sessions spent, kept in `path`; for work that has no steps."""
    trained = Trained(*json.loads(path.read_text())) if path.exists() else Trained()
    cpu, wall = time.process_time(), time.monotonic()
    try:
        yield trained
    finally:
        trained.cpu_seconds += time.process_time() - cpu
        trained.wall_seconds += time.monotonic() - wall
        path.write_text(json.dumps([trained.cpu_seconds, trained.wall_seconds]))


def train(
    name: str,
    modules: Mapping[str, nn.Module],
    parameters: "Iterable[nn.Parameter] | list[dict[str, Any]]",
    schedule: Schedule,
    loss_at: "Callable[[int], Tensor]",
    work_dir: Path,
) -> Trained:
    """Run one stage to its end, from its last checkpoint in `work_dir` if there is one.

    `parameters` is what AdamW takes: parameters, or groups with their own `lr`.
    """
    optimiser = torch.optim.AdamW(
        parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, betas=(0.9, 0.98)
    )
    peaks = [group["lr"] for group in optimiser.param_groups]
    path = work_dir / f"{name}.ckpt"
    trained = Trained()
    start = _resume(path, modules, optimiser, trained)
    trainable = [p for group in optimiser.param_groups for p in group["params"]]
    recent = _trim_log(work_dir / f"{name}.csv", start)
    with _progress() as progress, (work_dir / f"{name}.csv").open("a") as log:
        task = progress.add_task(name, total=schedule.num_steps, completed=start, loss=trained.loss)
        cpu, wall = time.process_time(), time.monotonic()
        for step in range(start, schedule.num_steps):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * schedule.factor(step)
            with multiplying_in(schedule.precision):
                loss = loss_at(step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(trainable, schedule.clip_norm)
            optimiser.step()
            recent = [*recent, loss.item()][-AVERAGED:]
            trained.loss = sum(recent) / len(recent)
            log.write(f"{step},{loss.item():.5f},{norm.item():.4f}\n")
            progress.update(task, completed=step + 1, loss=trained.loss)
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == schedule.num_steps:
                now = time.process_time(), time.monotonic()
                trained.cpu_seconds += now[0] - cpu
                trained.wall_seconds += now[1] - wall
                cpu, wall = now
                log.flush()
                _save(path, step + 1, modules, optimiser, trained)
    return trained


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )


def _trim_log(path: Path, num_rows: int) -> list[float]:
    """Drop the steps after the last checkpoint, which are taken again; the last losses that stay."""
    rows = path.read_text().splitlines()[:num_rows] if path.exists() else []
    path.write_text("".join(f"{row}\n" for row in rows))
    return [float(row.split(",")[1]) for row in rows[-AVERAGED:]]


def _save(
    path: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    trained: Trained,
) -> None:
    payload = {
        "step": step,
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimiser": optimiser.state_dict(),
        "trained": [trained.cpu_seconds, trained.wall_seconds, trained.loss],
    }
    save_atomically(path, payload)


def _resume(
    path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, trained: Trained
) -> int:
    """Restore a stage; the number of steps that are done."""
    if not path.exists():
        return 0
    payload = torch.load(path, weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(payload["modules"][name])
    optimiser.load_state_dict(payload["optimiser"])
    trained.cpu_seconds, trained.wall_seconds, trained.loss = payload["trained"]
    return int(payload["step"])
