"""Atomic writing of text files."""

import json
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a temporary file, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(text, encoding="utf-8", newline="")
    unfinished.replace(path)


def write_json(path: Path, values: object) -> None:
    """Write indented JSON with a final newline."""
    write_text(path, json.dumps(values, indent=2) + "\n")
