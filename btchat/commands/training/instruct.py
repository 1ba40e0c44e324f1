"""`btchat train instruct` and `features`: alone, or under torchrun."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from btchat.commands.options import Work, default_weights_dir
from btchat.commands.training.run_options import RUN_OPTIONS, RunOptions, show_plan

if TYPE_CHECKING:
    from bt_model.training.instruct.settings import InstructSettings


def instruct(
    *,
    options: RunOptions = RUN_OPTIONS,
    work: Work = Path(".work/instruct"),
    dry_run: bool = False,
    devices: int = 1,
) -> None:
    """Tune a chat model on dialogues about videos (docs/instruction-tuning.md); resumable.

    Args:
        work: checkpoints, logs, and model/, the result
        dry_run: only say what the run would be
        devices: how many, for --dry-run
    """
    from bt_model.training.instruct.run import MODEL, instruct
    from bt_model.training.trainer.parallel import Rank

    settings = _settings(options)
    if dry_run:
        from bt_model.training.plan import plan_tuning

        show_plan(plan_tuning(settings, devices))
        return
    rank = Rank.from_torchrun(os.environ)
    instruct(settings, work, rank)
    if rank.number == 0:
        print(work / MODEL)


def features(*, options: RunOptions = RUN_OPTIONS, all_states: bool = False) -> None:
    """Write the frozen tower's part of `instruct`, once for every video.

    Args:
        all_states: all states that the branch reads, not only the first: several times as large
    """
    from bt_model.training.instruct.features import write_features
    from bt_model.training.trainer.parallel import Rank

    settings = _settings(options)
    written = write_features(settings, Rank.from_torchrun(os.environ), all_states=all_states)
    counts = f"{written.num_written} videos written, {written.num_broken} not readable"
    print(f"{settings.data.features}: {counts}")


def _settings(options: RunOptions) -> "InstructSettings":
    """Names of models are looked up where every command looks, unless the run says otherwise."""
    from bt_model.training.instruct.settings import InstructSettings
    from bt_model.training.settings import settings_of

    below = {"model": {"weights": str(default_weights_dir())}}
    return settings_of(
        InstructSettings, "instruct", options.preset, options.config, options.assignments, below
    )
