"""The parts of a schema, and where it is wrong: the innermost part that is refused for the same reason."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

_DEFINITIONS = ("$defs", "definitions")
_BY_NAME = (*_DEFINITIONS, "properties", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_ONE = ("items", "additionalProperties")
_MOST_TRIED = 200


def place_of(schema: dict[str, Any], complaint: Callable[[str], str]) -> str:
    """Its path, as `.properties.name`, empty for the whole; `complaint` says why a text is refused."""
    known = {name: schema[name] for name in _DEFINITIONS if name in schema}
    why, path, part, tried = complaint(json.dumps(schema)), "", schema, count()
    while True:
        for name, inner in _parts(part):
            if next(tried) >= _MOST_TRIED:
                return path
            if complaint(json.dumps({**known, **inner})) == why:
                path, part = path + name, inner
                break
        else:
            return path


def all_parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and everything inside of it, each with its path."""
    yield path, schema
    for name, inner in _parts(schema):
        yield from all_parts(inner, path + name)


def _parts(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schemas directly inside of one."""
    for key in _BY_NAME:
        named = schema.get(key)
        if isinstance(named, dict):
            yield from ((f".{key}.{name}", each) for name, each in named.items() if isinstance(each, dict))
    for key in _LISTS:
        listed = schema.get(key)
        if isinstance(listed, list):
            yield from ((f".{key}[{i}]", each) for i, each in enumerate(listed) if isinstance(each, dict))
    yield from ((f".{key}", schema[key]) for key in _ONE if isinstance(schema.get(key), dict))
