"""Settings of a run: the sections of every kind of training, and where their values come from.

A run's own file stands above a preset, single values of the command line above both. TOML has no null: "none"
stands for it.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, Field, model_validator

from bt_model.atomic_files import write_json
from bt_model.errors import InvalidValueError, require
from bt_model.settings.layers import layered
from bt_model.settings.refusal import validated
from bt_model.settings.section import Count, NotNegative, Positive, Section, Share
from bt_model.settings.toml_file import read_toml
from bt_model.training.presets import Stage, preset
from bt_model.types import MAX_FRAMES, ReaderName

S = TypeVar("S", bound=BaseModel)
Values = dict[str, Any]
Precision = Literal["float32", "bfloat16", "float16"]
Parallel = Literal["ddp", "fsdp"]
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


def settings_of(
    kind: type[S],
    stage: Stage,
    name: str | None = None,
    file: Path | None = None,
    assignments: Sequence[str] = (),
    below: Mapping[str, Any] | None = None,
) -> S:
    """A preset by name, above it a TOML file, above both single values; `below` all of them what is usual.

    Raises:
        UnknownNameError: no such preset.
        InvalidValueError: a file that cannot be read, an unknown name, or a value that is not allowed.
    """
    layers = [below or {}]
    layers += [preset(stage, name)] if name else []
    layers += [read_toml(file)] if file else []
    return settings_from(kind, *layers, *map(read_assignment, assignments))


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


class DataSettings(Section):
    """Videos, and how they are read.

    `annotations` are files; wildcards are allowed. `root` holds the videos. `seconds` is how long one video
    may take to decode; more than `max_broken` of all that fail end the run.
    """

    annotations: tuple[str, ...] = ()
    root: str = "."
    frames: int = Field(default=8, ge=1, le=MAX_FRAMES)
    reader: ReaderName = "pyav"
    workers: Count = 4
    prefetch: Count = 3
    seconds: Positive = 30.0
    max_broken: Share = 0.05


class OptimiserSettings(Section):
    """AdamW and its rates; `batch` is that of all devices together.

    A parameter's rate is `rate` times the factor in `rates` under the longest name that its own name
    contains.
    """

    batch: Count = 64
    accumulate: Count = 1
    epochs: Count = 1
    rate: Positive = 1e-4
    rates: dict[str, float] = Field(default_factory=dict[str, float])
    weight_decay: NotNegative = 0.0
    beta1: NotNegative = 0.9
    beta2: NotNegative = 0.999
    eps: Positive = 1e-8
    clip_norm: Positive = 1.0
    floor: NotNegative = 0.0

    @model_validator(mode="after")
    def _require_equal_parts(self) -> Self:
        ok = self.batch % self.accumulate == 0
        require(ok, "accumulate", self.accumulate, f"a divisor of {self.batch}")
        return self


class RunSettings(Section):
    """How the run is computed. `steps` ends it early; 0 is all epochs. `keep` checkpoints are kept.

    `recompute` keeps only the inputs of layers for the way back.
    """

    seed: int = Field(default=0, ge=0)
    precision: Precision = "float32"
    parallel: Parallel = "ddp"
    device: str = "auto"
    recompute: bool = False
    steps: int = Field(default=0, ge=0)
    save_every: Count = 200
    keep: Count = 2
