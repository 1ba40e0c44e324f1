"""What a temporal model's file says of itself: kind and settings, which its tensors do not tell.

The facts stand as JSON in the metadata of the safetensors file. A file without a kind holds a BT-Adapter, as
the published ones do.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bt_model.checkpoints.weights import Source, metadata_of
from bt_model.config import BRANCH_KINDS, BTAdapterConfig, TemporalConfig
from bt_model.errors import CheckpointError, InvalidValueError

if TYPE_CHECKING:
    from bt_model.vision.encoder import TemporalEncoder

FACTS = "bt_adapter"  # the key in the metadata
_IN_TRUNK = ("num_layers", "max_frames", "bottleneck", "time_std")
_COUNTS = ("num_layers", "max_frames", "bottleneck", "positions", "blocks")
_SCALES = ("middle_scale", "output_scale", "time_std", "drop_path")
_FLAGS = ("interaction", "is_open")
_MAY_BE_NULL = ("num_layers", "middle_scale", "output_scale")
_MAX_COUNT, _MAX_SCALE = 1 << 16, 1e6


def facts_of(source: Source) -> dict[str, Any]:
    """What a file says; nothing for one that is silent, and for tensors in memory.

    Raises:
        CheckpointError: a file that cannot be read, says something that is no JSON object, or something else
            than a number where a number belongs.
    """
    text = metadata_of(source).get(FACTS) if isinstance(source, Path) else None
    if text is None:
        return {}
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{source}: {FACTS} in its metadata is no JSON ({error})") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"{source}: {FACTS} in its metadata is {text!r}; allowed: a JSON object")
    return _checked(source, cast(dict[str, Any], facts))


def _checked(source: Source, facts: dict[str, Any]) -> dict[str, Any]:
    if ("positions" in facts) != ("blocks" in facts):
        raise CheckpointError(f"{source}: {FACTS} in its metadata says positions or blocks; allowed: both")
    for name, value in facts.items():
        if value is None and name in _MAY_BE_NULL:
            continue
        odd = f"{source}: {FACTS} in its metadata: {name} is {value!r}; allowed:"
        if name in _COUNTS and not _is_count(value):
            raise CheckpointError(f"{odd} 1 to {_MAX_COUNT}")
        if name in _SCALES and not _is_scale(value):
            raise CheckpointError(f"{odd} a number, -{_MAX_SCALE:.0f} to {_MAX_SCALE:.0f}")
        if name in _FLAGS and type(value) is not bool:
            raise CheckpointError(f"{odd} true, false")
    return facts


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_COUNT


def _is_scale(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and -_MAX_SCALE <= value <= _MAX_SCALE
    )


def temporal_config(source: Source) -> TemporalConfig | None:
    """The temporal model in a file, or None where the file does not name its kind.

    Raises:
        CheckpointError: a file that cannot be read, an unknown kind, or settings of a wrong value.
    """
    facts = facts_of(source)
    if "kind" not in facts:
        return None
    try:
        if facts["kind"] in BRANCH_KINDS:
            branch = BTAdapterConfig(**_picked(facts, [field.name for field in fields(BTAdapterConfig)]))
            return TemporalConfig(branch=branch, **_picked(facts, ["kind", "is_open"]))
        return TemporalConfig(**_picked(facts, ["kind", "is_open", *_IN_TRUNK]))
    except (InvalidValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {FACTS} in its metadata: {error}") from error


def facts_about(encoder: "TemporalEncoder") -> dict[str, Any]:
    """Kind and settings, and the tower that it belongs beside (checkpoints/fit.py)."""
    config, vision = encoder.config, encoder.tower.config
    settings = asdict(config.branch) if config.has_branch else _picked(asdict(config), _IN_TRUNK)
    tower = {"family": vision.family, "positions": 1 + vision.num_patches, "blocks": vision.num_layers}
    return {"kind": config.kind, "is_open": config.is_open, **settings, **tower}


def _picked(values: Mapping[str, Any], names: "list[str] | tuple[str, ...]") -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}
