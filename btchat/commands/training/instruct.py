"""`btchat train instruct` and `features`: alone, or under torchrun."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from btchat.commands.options import Work, default_weights_dir
from btchat.commands.training.run_options import RUN_OPTIONS, RunOptions, torchrun_place

if TYPE_CHECKING:
    from bt_model.training.instruct.config import InstructSettings


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

    settings = _settings(options)
    if dry_run:
        from bt_model.training.instruct.forecast import forecast

        print(json.dumps(forecast(settings, devices), indent=2))
        return
    place = torchrun_place()
    instruct(settings, work, place)
    if place.rank == 0:
        print(work / MODEL)


def features(*, options: RunOptions = RUN_OPTIONS, all_states: bool = False) -> None:
    """Write the frozen tower's part of `instruct`, once for every video.

    Args:
        all_states: all states that the branch reads, not only the first: several times as large
    """
    from bt_model.training.instruct.features import write_features

    settings = _settings(options)
    stored = write_features(settings, torchrun_place(), all_states=all_states)
    print(f"{settings.data.features}: {stored.num_written} videos written, {stored.num_broken} not readable")


def _settings(options: RunOptions) -> "InstructSettings":
    """Names of models are looked up where every command looks, unless the run says otherwise."""
    from bt_model.training.instruct.config import InstructSettings

    return options.settings(
        InstructSettings, "instruct", below={"model": {"weights": str(default_weights_dir())}}
    )
