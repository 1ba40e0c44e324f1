"""`btchat train pretrain` and `export`: alone, under torchrun, or with Ray as launcher."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from btchat.commands.options import Work
from btchat.commands.training.run_options import RUN_OPTIONS, RunOptions

if TYPE_CHECKING:
    from bt_model.config import Family
    from bt_model.training.pretrain.config import PretrainSettings


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
    from bt_model.training.pretrain.config import PretrainSettings
    from bt_model.training.pretrain.run import pretrain
    from bt_model.training.trainer.parallel import Rank

    settings = options.settings(PretrainSettings, "pretrain")
    if dry_run:
        print(json.dumps(_plan(settings, work, devices, rate), indent=2))
    elif launcher == "ray":
        from btchat.commands.training.ray import pretrain_on_ray

        pretrain_on_ray(settings, work, workers)
    else:
        pretrain(settings, work, Rank.from_torchrun(os.environ))


def export(*, work: Work = Path(".work/pretrain"), out: Path, with_clip: bool = False) -> None:
    """Write a run's last checkpoint as a file of published names.

    Args:
        work: folder of the run
        out: NAME.safetensors, or NAME.pth
        with_clip: CLIP's towers in the same file
    """
    from bt_model.training.pretrain.files import export

    export(work, out, with_clip=with_clip)
    print(out)


def _plan(settings: "PretrainSettings", work: Path, devices: int, rate: float | None) -> dict[str, object]:
    """The output of `--dry-run`; for missing towers and clips the published ones are assumed."""
    from bt_model.training.data.clip_list import matching, read_clips
    from bt_model.training.pretrain.captioner import captioner_file, is_captioner_there
    from bt_model.training.pretrain.plan import WEBVID_CLIPS, PretrainPlan
    from bt_model.training.pretrain.towers import PUBLISHED, towers_of
    from bt_model.training.settings import plain

    has_towers = (Path(settings.model.clip) / "config.json").is_file()
    family: Family = "eva" if "eva" in Path(settings.model.clip).name else "clip"
    towers = towers_of(settings.model) if has_towers else PUBLISHED[family]
    has_clips = any(matching(pattern) for pattern in settings.data.annotations)
    num_clips = len(read_clips(settings.data, work)) if has_clips else WEBVID_CLIPS
    # a missing captioner is assumed only while the towers are missing too; else captioner_file raises
    is_told = has_towers or Path(settings.model.captioner).exists()
    has_captioner = is_captioner_there(settings)
    if is_told and not has_captioner:
        captioner_file(settings)
    plan = PretrainPlan(settings, towers, num_clips, devices, rate)
    assumed = (
        [] if has_towers else [f"{settings.model.clip} is not there: the published {family} tower is assumed"]
    )
    assumed += [] if has_clips else ["data.annotations are not there: WebVid-2M is assumed"]
    assumed += [] if has_captioner else [f"{settings.model.captioner} is not there: LLaVA 7B is assumed"]
    return {"settings": plain(settings), "assumed": assumed, **plan.describe()}
