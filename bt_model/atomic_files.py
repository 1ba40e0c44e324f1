"""Atomic writing of small files."""

import json
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Write a temporary file, then rename it; where that fails, nothing is left of it.

    Raises:
        OSError: such as a folder that is not there.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """The same in UTF-8, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode())


def write_json(path: Path, values: object) -> None:
    """Write indented JSON with a final newline."""
    write_text(path, json.dumps(values, indent=2) + "\n")
