"""Reading a checkpoint's config.json as it is, without any library's guess about what it means."""

import json
from pathlib import Path
from typing import Any, cast

from bt_model.errors import CheckpointError


def read_config(folder: Path) -> dict[str, Any]:
    """The raw `config.json` of a checkpoint folder.

    Raises:
        CheckpointError: missing, or not a JSON object.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable JSON file ({type(error).__name__})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds {type(values).__name__}, not an object")
    return cast(dict[str, Any], values)
