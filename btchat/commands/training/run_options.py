"""What the commands that run from settings have in common: their options."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Group, Parameter

from bt_model.training.presets import Stage, preset, preset_names

if TYPE_CHECKING:
    from pydantic import BaseModel


S = TypeVar("S", bound="BaseModel")
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

    def settings(self, kind: type[S], stage: Stage, *, below: Mapping[str, Any] | None = None) -> S:
        """The preset, above it the file, above both single values; `below` all of them what is usual here.

        Raises:
            BtchatError: an unknown preset, name or value, or a file that cannot be read.
        """
        from bt_model.settings.toml_file import read_toml
        from bt_model.training.settings import read_assignment, settings_from

        layers = [below or {}]
        layers += [preset(stage, self.preset)] if self.preset else []
        layers += [read_toml(self.config)] if self.config else []
        return settings_from(kind, *layers, *map(read_assignment, self.assignments))


RUN_OPTIONS = RunOptions()
