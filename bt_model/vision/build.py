"""Builds temporal models from their configuration, over a tower that is not changed.

L trunk layers, K layers of the model, D width.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.config import TemporalConfig, TemporalKind
from bt_model.errors import InvalidValueError
from bt_model.vision.baselines.in_trunk import InTrunkEncoder, TemporalParts
from bt_model.vision.baselines.joint_st import JointST
from bt_model.vision.baselines.separate_st import SeparateST
from bt_model.vision.baselines.st_adapter import STAdapter
from bt_model.vision.baselines.stan import Stan
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import TemporalEncoder, VideoEncoder

if TYPE_CHECKING:
    from bt_model.config import ClipVisionConfig

OPENED = ("layers.", "post_layernorm.", "visual_projection.")  # trained in an open tower; embeddings are not


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
    if (num_layers or 0) > tower.config.num_layers:
        raise InvalidValueError(
            f"num_layers is {num_layers}; allowed: 1 to {tower.config.num_layers}, the tower's",
            param="num_layers",
        )
    tower.requires_grad_(requires_grad=False)
    own = _copy(tower) if config.is_open else None
    weight = tower.class_embedding
    if config.has_branch or config.kind == "clip":
        branch = _branch(config, tower)
        if branch is not None:
            _scale_times(branch, config.time_std)
            branch = branch.to(weight.device, weight.dtype)
        return VideoEncoder(tower, branch, own=own, skip=skip, upstream_compat=upstream_compat)
    parts = _PARTS[config.kind](config, tower.config)
    _scale_times(parts, config.time_std)
    return InTrunkEncoder(tower, parts.to(weight.device, weight.dtype), config, own=own, skip=skip)


def _branch(config: TemporalConfig, tower: ClipVisionTower) -> BTAdapter | None:
    if config.kind == "clip":
        return None
    if config.kind == "stan":
        branch = Stan(tower.config, replace(config.branch, combination="add"))
    else:
        branch = BTAdapter(tower.config, config.branch)
    branch.init_from_trunk(tower)
    return branch


def _joint_st(config: TemporalConfig, vision: "ClipVisionConfig") -> TemporalParts:
    return JointST(vision.width, config.max_frames)


def _separate_st(config: TemporalConfig, vision: "ClipVisionConfig") -> TemporalParts:
    num_layers = config.num_layers or vision.num_layers
    return SeparateST(vision.width, vision.num_heads, vision.eps, num_layers, config.max_frames)


def _st_adapter(config: TemporalConfig, vision: "ClipVisionConfig") -> TemporalParts:
    return STAdapter(vision.width, config.bottleneck, config.num_layers or vision.num_layers)


_PARTS: "dict[TemporalKind, Callable[[TemporalConfig, ClipVisionConfig], TemporalParts]]" = {
    "joint_st": _joint_st,
    "separate_st": _separate_st,
    "st_adapter": _st_adapter,
}


@torch.no_grad()
def _scale_times(module: nn.Module, std: float) -> None:
    for name, weight in module.named_parameters():
        if name == "time_embed.weight":
            weight.mul_(std)


def _copy(tower: ClipVisionTower) -> ClipVisionTower:
    """A copy of the tower whose layers, last norm and projection are trained."""
    with torch.device("meta"):
        own = ClipVisionTower(tower.config)
    own.load_state_dict({name: tensor.clone() for name, tensor in tower.state_dict().items()}, assign=True)
    for name, weight in own.named_parameters():
        weight.requires_grad_(name.startswith(OPENED))
    return own
