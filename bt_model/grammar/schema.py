"""A JSON schema as a client sends it: bounded, and as one canonical text. Without the grammar library."""

import json
from collections.abc import Mapping
from typing import Any

from bt_model.errors import InvalidValueError

MAX_SCHEMA_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 64
ANY_OBJECT = '{"type":"object"}'
SCHEMA_FIELD = "response_format.json_schema.schema"
_OWN_OPTIONS = "x-guidance"  # the library's way to let a schema change how it is read


def schema_text(schema: Mapping[str, Any]) -> str:
    """The text that stands for a schema from here on.

    Raises:
        InvalidValueError: longer than MAX_SCHEMA_BYTES, deeper than MAX_SCHEMA_DEPTH, or not JSON.
    """
    depth = _depth(schema)
    if depth > MAX_SCHEMA_DEPTH:
        raise refused(f"is nested deeper than {MAX_SCHEMA_DEPTH} levels")
    if _OWN_OPTIONS in schema:
        raise refused(f"has the key {_OWN_OPTIONS!r}, which is no part of JSON Schema")
    try:
        text = json.dumps(schema, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise refused("has a number that is not finite") from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise refused(f"has {len(text)} bytes; allowed: {MAX_SCHEMA_BYTES}")
    return text


def refused(why: str, where: str = "") -> InvalidValueError:
    """The error of a schema; `where` is a path inside of it, as `.properties.name`."""
    return InvalidValueError(f"{SCHEMA_FIELD}{where} {why}", param=f"{SCHEMA_FIELD}{where}")


def _depth(value: object) -> int:
    """Of objects and lists inside each other; counting ends beyond what is allowed."""
    level, depth = [value], 0
    while level and depth <= MAX_SCHEMA_DEPTH:
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()  # pyright: ignore[reportUnknownArgumentType] - of JSON
            elif isinstance(each, list):
                inner += each  # pyright: ignore[reportUnknownArgumentType] - of JSON
        level, depth = inner, depth + 1
    return depth
