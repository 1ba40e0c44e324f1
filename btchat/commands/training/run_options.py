"""The options of the commands that run from settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from bt_model.training.presets import preset_names

_PRESETS = f"pretrain: {', '.join(preset_names('pretrain'))}; instruct: {', '.join(preset_names('instruct'))}"


@Parameter(name="*", group=Group.create_ordered("Settings of the run"))
@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where the settings of a run come from."""

    preset: Annotated[str | None, Parameter(help=f"named settings ({_PRESETS})")] = None
    config: Annotated[Path | None, Parameter(help="TOML file; it stands above the preset")] = None
    assignments: Annotated[
        tuple[str, ...],
        Parameter(name="--set", metavar="SECTION.KEY=VALUE", help="one setting; above the file; repeatable"),
    ] = ()


RUN_OPTIONS = RunOptions()
