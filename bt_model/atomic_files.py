"""Text files that appear complete or not at all."""

import json
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file by way of another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(text, encoding="utf-8", newline="")
    unfinished.replace(path)


def write_json(path: Path, values: object) -> None:
    """Write JSON for people: indented, with a last line's end."""
    write_text(path, json.dumps(values, indent=2) + "\n")
