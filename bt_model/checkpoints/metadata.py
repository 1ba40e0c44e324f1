"""Metadata of a temporal model's file: kind and settings, which cannot be inferred from its tensors.

They are stored as JSON in the safetensors header. A file without a kind holds a BT-Adapter, as the published
ones do.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, cast

from bt_model.config import BRANCH_KINDS, BTAdapterConfig, TemporalConfig
from bt_model.errors import CheckpointError, InvalidValueError

if TYPE_CHECKING:
    from bt_model.vision.encoder import TemporalEncoder

KEY = "bt_adapter"  # in the safetensors header
_IN_TRUNK = ("num_layers", "max_frames", "bottleneck", "time_std")
_COUNTS = ("num_layers", "max_frames", "bottleneck", "positions", "blocks")
_SCALES = ("middle_scale", "output_scale", "time_std", "drop_path")
_FLAGS = ("interaction", "is_open")
_MAY_BE_NULL = ("num_layers", "middle_scale", "output_scale")
_MAX_COUNT, _MAX_SCALE = 1 << 16, 1e6


def parse_metadata(where: str, text: str | None) -> dict[str, Any]:
    """The entry of a safetensors header; empty for a file without one.

    Raises:
        CheckpointError: no JSON object, or a value of the wrong type.
    """
    try:
        metadata = json.loads("{}" if text is None else text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: {KEY} in its metadata is no JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{where}: {KEY} in its metadata is {text!r}; allowed: a JSON object")
    return _checked(where, cast(dict[str, Any], metadata))


def _checked(where: str, metadata: dict[str, Any]) -> dict[str, Any]:
    if ("positions" in metadata) != ("blocks" in metadata):
        raise CheckpointError(f"{where}: {KEY} in its metadata says positions or blocks; allowed: both")
    for name, value in metadata.items():
        if value is None and name in _MAY_BE_NULL:
            continue
        refused = f"{where}: {KEY} in its metadata: {name} is {value!r}; allowed:"
        if name in _COUNTS and not (type(value) is int and 1 <= value <= _MAX_COUNT):
            raise CheckpointError(f"{refused} 1 to {_MAX_COUNT}")
        if name in _SCALES and not _is_scale(value):
            raise CheckpointError(f"{refused} a number, -{_MAX_SCALE:.0f} to {_MAX_SCALE:.0f}")
        if name in _FLAGS and type(value) is not bool:
            raise CheckpointError(f"{refused} true, false")
    return metadata


def _is_scale(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and -_MAX_SCALE <= value <= _MAX_SCALE
    )


def temporal_config(where: str, metadata: Mapping[str, Any]) -> TemporalConfig | None:
    """The temporal model that metadata describes, or None where it does not name a kind.

    Raises:
        CheckpointError: an unknown kind, or settings of a wrong value.
    """
    if "kind" not in metadata:
        return None
    try:
        if metadata["kind"] in BRANCH_KINDS:
            branch = BTAdapterConfig(**_picked(metadata, [field.name for field in fields(BTAdapterConfig)]))
            return TemporalConfig(branch=branch, **_picked(metadata, ["kind", "is_open"]))
        return TemporalConfig(**_picked(metadata, ["kind", "is_open", *_IN_TRUNK]))
    except (InvalidValueError, TypeError) as error:
        raise CheckpointError(f"{where}: {KEY} in its metadata: {error}") from error


def metadata_of(encoder: "TemporalEncoder") -> dict[str, Any]:
    """Kind and settings, and the tower that it was trained beside (checkpoints/compatibility.py)."""
    config, vision = encoder.config, encoder.tower.config
    settings = asdict(config.branch) if config.has_branch else _picked(asdict(config), _IN_TRUNK)
    tower = {"family": vision.family, "positions": 1 + vision.num_patches, "blocks": vision.num_layers}
    return {"kind": config.kind, "is_open": config.is_open, **settings, **tower}


def _picked(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}
