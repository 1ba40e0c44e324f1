"""Reading a TOML file that a user wrote."""

import tomllib
from pathlib import Path
from typing import Any

from bt_model.errors import InvalidValueError, explain


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        InvalidValueError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidValueError(f"cannot read settings: {explain(error)}", param="config") from error
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"{path}: not TOML ({error})", param="config") from error
