"""Temporal models of any kind to files and back. A file says what it holds (checkpoints/facts.py)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_model.checkpoints.export import save_parts
from bt_model.checkpoints.layouts.clip import OWN, RETRIEVAL
from bt_model.checkpoints.layouts.eva import EVA_RETRIEVAL
from bt_model.checkpoints.load import load_part
from bt_model.checkpoints.metadata import FACTS, facts_about
from bt_model.errors import InvalidValueError
from bt_model.vision.build import build_encoder

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.checkpoints.layouts.key_map import KeyMap
    from bt_model.config import TemporalConfig
    from bt_model.vision.clip import ClipVisionTower
    from bt_model.vision.encoder import TemporalEncoder


def save_temporal(
    path: Path,
    encoder: "TemporalEncoder",
    *,
    parts: "Mapping[str, Mapping[str, Tensor]] | None" = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write what training updates, with kind and settings; complete or not at all.

    A BT-Adapter that the published layout can hold is written in it, everything else under our own names; an
    open model's file holds its whole tower. `parts` are state dicts of further parts (`extra_proj`), `facts`
    what else is to be said.

    Raises:
        InvalidValueError: a model without anything to train: frozen CLIP is a model file without an adapter.
    """
    state = {part: module.state_dict() for part, module in encoder.trainable().items()}
    if not state:
        raise InvalidValueError("kind is 'clip', not open; allowed: a model with trained parts", param="kind")
    said = json.dumps({**facts_about(encoder), **(facts or {})})
    save_parts(path, {**state, **(parts or {})}, _layout(encoder), {FACTS: said})


def load_temporal(
    path: Path,
    config: "TemporalConfig",
    tower: "ClipVisionTower",
    *,
    skip: int = 1,
    upstream_compat: bool = False,
) -> "TemporalEncoder":
    """A model of this description, filled from a file that `save_temporal` wrote.

    Raises:
        CheckpointError: a file that cannot be read, tensors that are missing, unexpected or wrongly shaped.
        InvalidValueError: more layers than the tower has.
    """
    encoder = build_encoder(config, tower, skip=skip, upstream_compat=upstream_compat)
    for part, module in encoder.trainable().items():
        load_part(module, path, part, num_layers=tower.config.num_layers)
    return encoder


def _layout(encoder: "TemporalEncoder") -> "KeyMap":
    branch, is_eva = encoder.config.branch, encoder.tower.config.family == "eva"
    is_gated = branch.output_gate is not None or branch.middle_gate is not None
    if encoder.config.kind != "bt_adapter" or branch.combination == "concat" or (is_eva and is_gated):
        return OWN
    return EVA_RETRIEVAL if is_eva else RETRIEVAL
