"""`btchat train pretrain | export`: alone, under torchrun, or with Ray as launcher."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from btchat.commands.training.typed_settings import a_folder, add_settings, torchrun_place, typed_settings

if TYPE_CHECKING:
    from bt_model.config import Family
    from bt_model.training.pretrain.config import PretrainSettings

AddParser = Callable[..., argparse.ArgumentParser]
LAUNCHERS = ("none", "ray")


def add_pretraining(add: AddParser) -> None:
    """The commands of video-text pre-training, below `btchat train`."""
    pretrain = add("pretrain", help="video-text pre-training of the adapter (docs/pretraining.md); resumable")
    add_settings(pretrain, "paper, captioned, published, published-eva")
    pretrain.add_argument(
        "--work", type=a_folder, default=Path(".work/pretrain"), help="checkpoints, logs, result"
    )
    pretrain.add_argument("--dry-run", action="store_true", help="only say what the run would be")
    pretrain.add_argument("--rate", type=float, help="for --dry-run: clips a second that a device does")
    pretrain.add_argument("--devices", type=int, default=1, help="for --dry-run: how many")
    pretrain.add_argument("--launcher", choices=LAUNCHERS, default="none")
    pretrain.add_argument("--workers", type=int, default=1, help="with a launcher: processes")
    pretrain.set_defaults(run=_pretrain)
    export = add("export", help="a run's last checkpoint as a file of published names")
    export.add_argument("--work", type=a_folder, default=Path(".work/pretrain"))
    export.add_argument("--out", type=Path, required=True, help="NAME.safetensors, or NAME.pth")
    export.add_argument("--with-clip", action="store_true", help="CLIP's towers in the same file")
    export.set_defaults(run=_export)


def _pretrain(arguments: argparse.Namespace) -> int:
    from bt_model.training.pretrain.config import PretrainSettings
    from bt_model.training.pretrain.presets import preset
    from bt_model.training.pretrain.run import pretrain

    settings = typed_settings(arguments, PretrainSettings, preset)
    if arguments.dry_run:
        print(json.dumps(_plan(settings, arguments), indent=2))
        return 0
    if arguments.launcher == "ray":
        from btchat.commands.training.ray import pretrain_on_ray

        pretrain_on_ray(settings, arguments.work, arguments.workers)
        return 0
    pretrain(settings, arguments.work, torchrun_place())
    return 0


def _plan(settings: "PretrainSettings", arguments: argparse.Namespace) -> dict[str, object]:
    """What `--dry-run` shows; towers and clips that are not there are taken to be the published ones."""
    from bt_model.training.data.clip_list import matching, read_clips
    from bt_model.training.pretrain.captioner import captioner_file, is_captioner_there
    from bt_model.training.pretrain.plan import WEBVID_CLIPS, Plan
    from bt_model.training.pretrain.towers import PUBLISHED, towers_of
    from bt_model.training.settings import plain

    has_towers = (Path(settings.model.clip) / "config.json").is_file()
    family: Family = "eva" if "eva" in Path(settings.model.clip).name else "clip"
    towers = towers_of(settings.model) if has_towers else PUBLISHED[family]
    has_clips = any(matching(pattern) for pattern in settings.data.annotations)
    num_clips = len(read_clips(settings.data, arguments.work)) if has_clips else WEBVID_CLIPS
    # only a set that is yet to be fetched may be assumed, beside towers that are
    is_told = has_towers or Path(settings.model.captioner).exists()
    has_captioner = is_captioner_there(settings)
    if is_told and not has_captioner:
        captioner_file(settings)
    plan = Plan(settings, towers, num_clips, arguments.devices, arguments.rate)
    assumed = (
        [] if has_towers else [f"{settings.model.clip} is not there: the published {family} tower is assumed"]
    )
    assumed += [] if has_clips else ["data.annotations are not there: WebVid-2M is assumed"]
    assumed += [] if has_captioner else [f"{settings.model.captioner} is not there: LLaVA 7B is assumed"]
    return {"settings": plain(settings), "assumed": assumed, **plan.describe()}


def _export(arguments: argparse.Namespace) -> int:
    from bt_model.training.pretrain.files import export

    export(arguments.work, arguments.out, with_clip=arguments.with_clip)
    print(arguments.out)
    return 0
