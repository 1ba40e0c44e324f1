"""Settings of a run: frozen dataclasses filled from TOML, presets and single values of the command line.

A section is a dataclass, its fields have plain types, and a wrong name or value is refused with what is
allowed. TOML has no word for nothing: "none" stands for it.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from bt_model.atomic_files import write_json
from bt_model.errors import InvalidValueError, UnknownNameError, require

S = TypeVar("S")
Values = dict[str, Any]

NOTHING = "none"
SETTINGS = "settings.json"  # of a run, in its folder
_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
# what may change between the sessions of a run: how it is computed, not what
_FREE = {
    "run": {"parallel", "device", "compile", "recompute", "steps", "save_every", "keep"},
    "data": {"workers", "prefetch", "seconds", "max_broken"},
}


def read_toml(path: Path) -> Values:
    """A TOML file.

    Raises:
        InvalidValueError: not TOML.
        OSError: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{path}: not TOML ({error})", param="config") from error


def read_assignment(text: str) -> Values:
    """`section.key=value`, the value as TOML spells it, or a bare word -> {"section": {"key": value}}.

    Raises:
        InvalidValueError: not of this form.
    """
    name, equals, value = (each.strip() for each in text.partition("="))
    section, dot, key = name.partition(".")
    if not (section and dot and key and equals):
        raise InvalidValueError(f"set is {text!r}; allowed: section.key=value", param="set")
    try:
        spelt = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        spelt = value
    return {section: {key: spelt}}


def overlaid(layers: Sequence[Mapping[str, Any]]) -> Values:
    """Sections of values one over the other: a later layer's value replaces an earlier one's."""
    merged: Values = {}
    for layer in layers:
        for section, values in layer.items():
            if isinstance(values, Mapping):
                over = cast("Mapping[str, Any]", values)
                merged[section] = {**merged.get(section, {}), **over}
            else:
                merged[section] = values
    return merged


def chosen(presets: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The values of a preset.

    Raises:
        UnknownNameError: no such preset.
    """
    if name not in presets:
        raise UnknownNameError(f"preset is {name!r}; allowed: {', '.join(presets)}", param="preset")
    return presets[name]


def fill(kind: type[S], values: Mapping[str, Any], where: str = "") -> S:
    """A settings dataclass from values by field name; sections are dataclasses within it.

    Raises:
        InvalidValueError: an unknown name, or a value that a field does not take; `param` is the dotted name.
    """
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        name = _dotted(where, unknown[0])
        raise InvalidValueError(f"{name} is not known; allowed: {', '.join(hints)}", param=name)
    try:
        return kind(**{n: _value(hints[n], value, _dotted(where, n)) for n, value in values.items()})
    except InvalidValueError as error:
        if where and error.param is not None and "." not in error.param:
            name = _dotted(where, error.param)
            raise InvalidValueError(f"{where}.{error.message}", param=name) from error
        raise


def plain(settings: object) -> Values:
    """The values of a settings dataclass as TOML or JSON can hold them; `fill` takes them back."""
    values: Values = {}
    for each in fields(settings):  # pyright: ignore[reportArgumentType] - settings are dataclasses
        value = getattr(settings, each.name)
        values[each.name] = plain(value) if is_dataclass(value) else NOTHING if value is None else value
    return values


def _dotted(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        require(isinstance(value, Mapping), name, value, "a section")
        return fill(cast("type[object]", hint), value, name)
    if origin is Literal:
        require(value in arguments, name, value, ", ".join(map(str, arguments)))
        return value
    if origin in (Union, UnionType) and NoneType in arguments:
        kind = next(each for each in arguments if each is not NoneType)
        return None if value == NOTHING else _value(kind, value, name)
    if origin is tuple:
        require(isinstance(value, list | tuple), name, value, "a list")
        return tuple(_value(arguments[0], each, name) for each in value)
    if origin is dict:
        require(isinstance(value, Mapping), name, value, "a table of names and values")
        return {key: _value(arguments[1], each, f"{name}.{key}") for key, each in value.items()}
    return _plain_value(hint, value, name)


def _plain_value(kind: type, value: Any, name: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    require(type(value) is kind, name, value, _KINDS[kind])
    return value


def keep_settings(work: Path, settings: object) -> None:
    """Write a run's settings, or make sure that a run that is resumed has the same.

    Raises:
        InvalidValueError: a setting that changes what the run computes.
    """
    path = work / SETTINGS
    if path.exists():
        began: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        _require_same(work, began, json.loads(json.dumps(plain(settings))))
    write_json(path, plain(settings))


def _require_same(work: Path, began: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> None:
    for section, values in now.items():
        for key, value in values.items():
            before = began.get(section, {}).get(key, value)
            if value != before and key not in _FREE.get(section, ()):
                name = f"{section}.{key}"
                raise InvalidValueError(
                    f"{name} is {value!r}; allowed: {before!r}, with which the run in {work} began",
                    param=name,
                )
