"""The options of the commands that run from settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Any, cast

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


def show_plan(plan: Mapping[str, Any]) -> None:
    """Print what --dry-run found out as JSON; estimates have four digits, settings all of theirs."""
    print(
        dumps({name: each if name == "settings" else _rounded(each) for name, each in plan.items()}, indent=2)
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in cast("Mapping[str, Any]", value).items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
