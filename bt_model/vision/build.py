"""Builds temporal models from their configuration, over a tower that is not changed.

L trunk layers, K layers of the model, D width.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.config import TemporalConfig, TemporalKind
from bt_model.errors import require
from bt_model.vision.baselines import InTrunkEncoder, JointST, SeparateST, STAdapter, Stan, TemporalParts
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import TemporalEncoder, VideoEncoder

if TYPE_CHECKING:
    from bt_model.config import ClipVisionConfig

UNFROZEN = ("layers.", "post_layernorm.", "visual_projection.")  # of a trained tower: not its embeddings
_PARTS: "dict[TemporalKind, Callable[[ClipVisionConfig, TemporalConfig], TemporalParts]]" = {
    "joint_st": JointST,
    "separate_st": SeparateST,
    "st_adapter": STAdapter,
}


def build_encoder(
    config: TemporalConfig, tower: ClipVisionTower, *, skip: int = 1, upstream_compat: bool = False
) -> TemporalEncoder:
    """A new model before training, on the tower's device and in its number format.

    This freezes the tower. New parts are initialised from torch's global generator; the spatial layers of a
    branch and an open trunk are copies of the tower's.

    Raises:
        InvalidValueError: more layers than the tower has.
    """
    num_layers = config.branch.num_layers if config.has_branch else config.num_layers
    most = tower.config.num_layers
    require((num_layers or 0) <= most, "num_layers", num_layers, f"1 to {most}, the tower's")
    tower.requires_grad_(requires_grad=False)
    own = _trainable_copy(tower) if config.is_open else None
    if config.kind in _PARTS:
        parts = _PARTS[config.kind](tower.config, config)
        _prepare(parts, config, tower)
        return InTrunkEncoder(tower, parts, config, own=own, skip=skip)
    branch = _branch(config, tower) if config.has_branch else None
    return VideoEncoder(tower, branch, own=own, skip=skip, upstream_compat=upstream_compat)


def _branch(config: TemporalConfig, tower: ClipVisionTower) -> BTAdapter:
    if config.kind == "stan":
        branch = Stan(tower.config, replace(config.branch, combination="add"))
    else:
        branch = BTAdapter(tower.config, config.branch)
    branch.init_from_trunk(tower)
    _prepare(branch, config, tower)
    return branch


@torch.no_grad()
def _prepare(part: nn.Module, config: TemporalConfig, tower: ClipVisionTower) -> None:
    """Scale a new part's time table, and move the part to the tower's device and number format."""
    for name, weight in part.named_parameters():
        if name == "time_embed.weight":
            weight.mul_(config.time_std)
    part.to(tower.class_embedding.device, tower.class_embedding.dtype)


def _trainable_copy(tower: ClipVisionTower) -> ClipVisionTower:
    """A copy of the tower whose layers, last norm and projection are trained."""
    own = deepcopy(tower)
    for name, weight in own.named_parameters():
        weight.requires_grad_(name.startswith(UNFROZEN))
    return own
