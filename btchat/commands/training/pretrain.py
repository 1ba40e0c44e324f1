"""`btchat train pretrain` and `export`: alone, under torchrun, or with Ray as launcher."""

import os
from pathlib import Path
from typing import Literal

from btchat.commands.options import OutputFile, Work
from btchat.commands.training.run_options import RUN_OPTIONS, RunOptions, show_plan


def pretrain(
    *,
    options: RunOptions = RUN_OPTIONS,
    work: Work = Path(".work/pretrain"),
    dry_run: bool = False,
    rate: float | None = None,
    devices: int = 1,
    launcher: Literal["none", "ray"] = "none",
    workers: int = 1,
) -> None:
    """Pre-train the adapter on videos with captions (docs/pretraining.md); resumable.

    Args:
        work: checkpoints, logs, result
        dry_run: only say what the run would be
        rate: clips a second that a device does, for --dry-run
        devices: how many, for --dry-run
        launcher: what starts the processes; none: torchrun, or nothing
        workers: processes, with a launcher
    """
    from bt_model.training.pretrain.run import pretrain
    from bt_model.training.pretrain.settings import PretrainSettings
    from bt_model.training.settings import settings_of
    from bt_model.training.trainer.parallel import Rank

    settings = settings_of(PretrainSettings, "pretrain", options.preset, options.config, options.assignments)
    if dry_run:
        from bt_model.training.plan import plan_pretraining

        show_plan(plan_pretraining(settings, work, devices, rate))
    elif launcher == "ray":
        from btchat.commands.training.ray import pretrain_on_ray

        pretrain_on_ray(settings, work, workers)
    else:
        pretrain(settings, work, Rank.from_torchrun(os.environ))


def export(*, work: Work = Path(".work/pretrain"), out: OutputFile, with_clip: bool = False) -> None:
    """Write a run's last checkpoint as a file of published names.

    Args:
        work: folder of the run
        out: NAME.safetensors, or NAME.pth
        with_clip: CLIP's towers in the same file
    """
    from bt_model.training.pretrain.run import export

    export(work, out, with_clip=with_clip)
    print(out)
