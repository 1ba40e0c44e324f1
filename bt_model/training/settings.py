"""Settings of a run from presets, TOML files and single values of the command line, and in its folder.

TOML has no word for nothing: "none" stands for it.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from bt_model.atomic_files import write_json
from bt_model.errors import InvalidValueError
from bt_model.settings.layers import layered
from bt_model.settings.refusal import validated

S = TypeVar("S", bound=BaseModel)
Values = dict[str, Any]

NOTHING = "none"
SETTINGS = "settings.json"  # in a run's folder
# settings that may change between the sessions of a run: they do not affect the result
_FREE = {
    "run": {"parallel", "device", "compile", "recompute", "steps", "save_every", "keep"},
    "data": {"workers", "prefetch", "seconds", "max_broken"},
}


def read_assignment(text: str) -> Values:
    """`section.key=value`, the value in TOML syntax, or a bare word -> {"section": {"key": value}}.

    Raises:
        InvalidValueError: not of this form.
    """
    name, equals, value = (each.strip() for each in text.partition("="))
    section, dot, key = name.partition(".")
    if not (section and dot and key and equals):
        raise InvalidValueError(f"set is {text!r}; allowed: section.key=value", param="set")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return {section: {key: parsed}}


def settings_from(kind: type[S], *layers: Mapping[str, Any]) -> S:
    """Settings from layers of sections.

    Raises:
        InvalidValueError: an unknown name, or a value that is not allowed; `param` is the dotted name.
    """
    return validated(kind, _replaced(layered(*layers), NOTHING, None), nothing=NOTHING)


def plain(settings: BaseModel) -> Values:
    """The values of settings as TOML or JSON can hold them; `settings_from` takes them back."""
    return _replaced(settings.model_dump(mode="json"), None, NOTHING)


def keep_settings(work: Path, settings: BaseModel) -> None:
    """Write a run's settings, or check that a resumed run has the same.

    Raises:
        InvalidValueError: a setting that changes what the run computes.
    """
    path = work / SETTINGS
    if path.exists():
        _require_same(work, json.loads(path.read_text(encoding="utf-8")), plain(settings))
    write_json(path, plain(settings))


def _replaced(value: Any, old: str | None, new: str | None) -> Any:
    if isinstance(value, Mapping):
        return {key: _replaced(each, old, new) for key, each in cast(Values, value).items()}
    return new if value == old else value


def _require_same(work: Path, began: dict[str, Values], now: dict[str, Values]) -> None:
    for section, values in now.items():
        for key, value in values.items():
            before = began.get(section, {}).get(key, value)
            if value != before and key not in _FREE.get(section, ()):
                name = f"{section}.{key}"
                raise InvalidValueError(
                    f"{name} is {value!r}; allowed: {before!r}, with which the run in {work} began",
                    param=name,
                )
