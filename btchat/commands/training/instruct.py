"""`btchat train instruct | features`: alone, or under torchrun."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from btchat.commands.training.typed_settings import a_folder, add_settings, torchrun_place, typed_settings

if TYPE_CHECKING:
    from bt_model.training.instruct.config import InstructSettings

AddParser = Callable[..., argparse.ArgumentParser]
_PRESETS = "paper, published"


def add_instruction_tuning(add: AddParser, weights_dir: Path) -> None:
    """The commands of instruction tuning, below `btchat train`; names of models are looked up in a folder."""
    tune = add(
        "instruct", help="tune a chat model on dialogues about videos (docs/instruction-tuning.md); resumable"
    )
    add_settings(tune, _PRESETS)
    tune.add_argument(
        "--work",
        type=a_folder,
        default=Path(".work/instruct"),
        help="checkpoints, logs, and model/, the result",
    )
    tune.add_argument("--dry-run", action="store_true", help="only say what the run would be")
    tune.add_argument("--devices", type=int, default=1, help="for --dry-run: how many")
    tune.set_defaults(run=_instruct, weights_dir=weights_dir)
    features = add("features", help="the frozen tower's part of `instruct`, once for every video")
    add_settings(features, _PRESETS)
    features.add_argument(
        "--all-states",
        action="store_true",
        help="all states that the branch reads, not only the first: several times as large",
    )
    features.set_defaults(run=_features, weights_dir=weights_dir)


def _settings(arguments: argparse.Namespace) -> "InstructSettings":
    from bt_model.training.instruct.config import InstructSettings
    from bt_model.training.instruct.presets import preset

    below = {"model": {"weights": str(arguments.weights_dir)}}
    return typed_settings(arguments, InstructSettings, preset, below=below)


def _instruct(arguments: argparse.Namespace) -> int:
    from bt_model.training.instruct.run import MODEL, instruct

    settings = _settings(arguments)
    if arguments.dry_run:
        from bt_model.training.instruct.forecast import forecast

        print(json.dumps(forecast(settings, arguments.devices), indent=2))
        return 0
    place = torchrun_place()
    instruct(settings, arguments.work, place)
    if place.rank == 0:
        print(arguments.work / MODEL)
    return 0


def _features(arguments: argparse.Namespace) -> int:
    from bt_model.training.instruct.features import write_features

    settings = _settings(arguments)
    stored = write_features(settings, torchrun_place(), all_states=arguments.all_states)
    print(f"{settings.data.features}: {stored.num_written} videos written, {stored.num_broken} not readable")
    return 0
