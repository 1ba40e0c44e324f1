"""Named settings of runs, a TOML file each: pretrain/NAME.toml and instruct/NAME.toml.

A preset may name another one that it `extends`. A run's own file and its command line stand above it.
"""

from pathlib import Path
from typing import Any, Literal

from bt_model.errors import UnknownNameError
from bt_model.settings.layers import layered
from bt_model.settings.toml_file import read_toml

Stage = Literal["pretrain", "instruct"]
_FOLDER = Path(__file__).parent


def preset_names(stage: Stage) -> list[str]:
    """All presets of a stage."""
    return sorted(path.stem for path in (_FOLDER / stage).glob("*.toml"))


def preset(stage: Stage, name: str) -> dict[str, Any]:
    """The sections of a preset, over those of the one that it extends.

    Raises:
        UnknownNameError: no such preset.
    """
    known = preset_names(stage)
    if name not in known:
        raise UnknownNameError(f"preset is {name!r}; allowed: {', '.join(known)}", param="preset")
    values = read_toml(_FOLDER / stage / f"{name}.toml")
    extended = values.pop("extends", None)
    return layered(preset(stage, extended), values) if extended else values
