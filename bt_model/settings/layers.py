"""Sections of values over one another: a preset, above it a file, above both the command line."""

from collections.abc import Mapping
from typing import Any, cast


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of values, one layer over the other: a later one's value replaces an earlier one's."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for section, values in layer.items():
            below = merged.get(section)
            is_table = isinstance(below, Mapping) and isinstance(values, Mapping)
            merged[section] = {**cast(dict[str, Any], below), **values} if is_table else values
    return merged
