"""One training loop for every stage: steps, log, atomic checkpoints, exact resume, any number of ranks.

A stage is a function of the step number and of the part of the step, so a resumed run sees what an
uninterrupted one would have seen.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from bt_model.training.cost import Trained
from bt_model.training.job import Job, Told
from bt_model.training.log import StepLog, progress_bar
from bt_model.training.schedule import Schedule
from bt_model.training.session import AVERAGED, Session

if TYPE_CHECKING:
    from torch import Tensor


def train(
    name: str,
    modules: Mapping[str, nn.Module],
    parameters: "Iterable[nn.Parameter] | list[dict[str, Any]]",
    schedule: Schedule,
    loss_at: "Callable[[int], Tensor]",
    work_dir: Path,
) -> Trained:
    """Run one stage in this process to its end, from its last checkpoint in `work_dir` if there is one.

    `parameters` is what AdamW takes: parameters, or groups with their own `lr`.
    """
    listed = list(parameters)
    groups = [each for each in listed if isinstance(each, dict)] or [{"params": listed}]
    job = Job(name, modules, groups, schedule, lambda step, _part: Told(loss_at(step)), work_dir)
    return run(job)


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
        with progress_bar(is_shown=log is not None) as progress:
            task = progress.add_task(
                job.name, total=job.num_steps, completed=start, loss=session.trained.loss, note=""
            )
            for step in range(start, job.num_steps):
                row = session.step(step)
                if log is not None:
                    log.write(step, row)
                progress.update(task, completed=step + 1, loss=session.trained.loss, note=_note(row))
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


def _note(row: Mapping[str, float]) -> str:
    if "clips_per_second" not in row:
        return ""
    return f"{row['clips_per_second']:.1f} clips/s" + (f", MFU {row['mfu']:.0%}" if "mfu" in row else "")
