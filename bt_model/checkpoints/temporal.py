"""Temporal models of any kind to files and back. Metadata describes the model (checkpoints/metadata.py)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_model.checkpoints.export import save_parts
from bt_model.checkpoints.layouts.clip import OWN, RETRIEVAL
from bt_model.checkpoints.layouts.eva import EVA_RETRIEVAL
from bt_model.checkpoints.load import CHAT_MAY_MISS, load_part
from bt_model.checkpoints.metadata import KEY, metadata_of
from bt_model.checkpoints.weights import Checkpoint, is_finite
from bt_model.errors import InvalidValueError
from bt_model.vision.build import build_encoder

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.checkpoints.layouts.key_map import KeyMap
    from bt_model.vision.clip import ClipVisionTower
    from bt_model.vision.encoder import TemporalEncoder


def save_temporal(
    path: Path,
    encoder: "TemporalEncoder",
    *,
    parts: "Mapping[str, Mapping[str, Tensor]] | None" = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the trained tensors with kind and settings, atomically.

    A BT-Adapter that the published layout can hold is written in it, everything else under our own names; an
    open model's file holds its whole tower. `parts` are state dicts of further parts (`extra_proj`),
    `metadata` further entries.

    Raises:
        InvalidValueError: the model has no trained tensors (frozen CLIP needs no adapter file).
    """
    state = {part: _present(module.state_dict()) for part, module in encoder.trainable().items()}
    if not state:
        raise InvalidValueError("kind is 'clip', not open; allowed: a model with trained parts", param="kind")
    text = json.dumps({**metadata_of(encoder), **(metadata or {})})
    save_parts(path, {**state, **(parts or {})}, _layout(encoder), {KEY: text})


def load_temporal(
    checkpoint: Checkpoint, tower: "ClipVisionTower", *, skip: int = 1, upstream_compat: bool = False
) -> "TemporalEncoder":
    """The model that a file's metadata describes, filled from it; `save_temporal` wrote it.

    Raises:
        CheckpointError: tensors that are missing, unexpected, wrongly shaped, or no finite numbers.
        InvalidValueError: more layers than the tower has.
    """
    assert checkpoint.temporal is not None
    encoder = build_encoder(checkpoint.temporal, tower, skip=skip, upstream_compat=upstream_compat)
    beside = checkpoint.beside(tower.config.num_layers)
    for part, module in encoder.trainable().items():
        load_part(module, beside, part, may_miss=CHAT_MAY_MISS if part == "vision" else ())
    return encoder


def _present(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Without what the tower's own file lacked and became NaN (`load_part`)."""
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(CHAT_MAY_MISS) or is_finite(tensor)
    }


def _layout(encoder: "TemporalEncoder") -> "KeyMap":
    branch, is_eva = encoder.config.branch, encoder.tower.config.family == "eva"
    is_gated = branch.output_gate is not None or branch.middle_gate is not None
    if encoder.config.kind != "bt_adapter" or branch.combination == "concat" or (is_eva and is_gated):
        return OWN
    return EVA_RETRIEVAL if is_eva else RETRIEVAL
