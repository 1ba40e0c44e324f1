"""Reads the JSON files beside weights as they are, since libraries fill in wrong defaults."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from bt_model.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: missing, not JSON, or JSON of another kind.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable JSON file ({type(error).__name__})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds {type(values).__name__}, not an object")
    return cast(dict[str, Any], values)


def read_config(folder: Path) -> dict[str, Any]:
    """The raw `config.json` of a checkpoint folder.

    Raises:
        CheckpointError: missing, or not a JSON object.
    """
    return read_json(folder / "config.json")


def section(folder: Path, config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside a folder's config.json.

    Raises:
        CheckpointError: it is missing, or something else.
    """
    if name not in config:
        raise CheckpointError(f"{folder}/config.json: lacks the field {name!r}")
    values = config[name]
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder}/config.json: {name} is {values!r}; allowed: an object")
    return cast(dict[str, Any], values)
