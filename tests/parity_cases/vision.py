"""Trunk, branch and what the chat and retrieval sides read from them.

B clips, T frames, P patches, D width, K branch layers, L trunk layers. Golden branch tensors hold the CLS
first, then patch n of frame t at 1 + n * T + t.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from bt_model.checkpoints.load import (
    CHAT_MAY_MISS,
    AdapterWeights,
    load_adapter,
    load_vision,
    read_adapter,
)
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.config import ClipVisionConfig
from bt_model.vision.bt_adapter import BranchState, BTAdapter
from bt_model.vision.clip import ClipVisionTower, hidden_states
from bt_model.vision.encoder import VideoEncoder
from bt_model.vision.pool import patches_cls
from tests.parity_cases.case import Case, Check, below

HALVED_UP_TO = 64  # frames; the published chat model halves its frame counter without merging frames


def chat_infer(case: Case) -> list[Check]:
    tower = tower_of(case)
    load_vision(tower, open_checkpoint(case.state), may_miss=CHAT_MAY_MISS)
    is_gated = case.config["out_norm"] is not None
    adapter = adapter_of(tower, read_adapter(open_checkpoint(case.state), side="chat", gated=is_gated))
    return case.compare(_chat_outputs(VideoEncoder(tower, adapter, upstream_compat=_is_halved(case)), case))


def chat_loader(case: Case) -> list[Check]:
    tower = tower_of(case)
    load_vision(tower, open_checkpoint(below("clip_tower.", case.state)), may_miss=CHAT_MAY_MISS)
    checkpoint = below("checkpoint.", case.state)
    if "vision" in open_checkpoint(checkpoint).parts:
        load_vision(tower, open_checkpoint(checkpoint), may_miss=CHAT_MAY_MISS)
    adapter = adapter_of(tower, read_adapter(open_checkpoint(checkpoint), side="chat"))
    assert adapter.config.num_layers == case.config["depth"]
    return case.compare(_chat_outputs(VideoEncoder(tower, adapter, upstream_compat=_is_halved(case)), case))


def chat_train(case: Case) -> list[Check]:
    tower = tower_of(case)
    adapter = adapter_of(tower, read_adapter(open_checkpoint(case.state), side="chat"))
    first = tower.config.num_layers - adapter.config.num_layers
    kept = range(first, tower.config.num_layers - 1)
    load_vision(
        tower,
        open_checkpoint(case.state),
        may_miss=_all_but(tower, "position_embedding", *(f"layers.{i}." for i in kept)),
    )
    states = [case.inputs["clip_features"]]
    for index in kept:
        tokens = tower.layers[index](states[-1].flatten(0, 1))
        states.append(tokens.view_as(states[0]))
    encoder = VideoEncoder(tower, adapter, upstream_compat=_is_halved(case))
    got = _branch_outputs(encoder, states[1:]) | _combined(encoder, states[1:], first=1)
    return case.compare(got | {"video_tokens": got[f"combined.{len(kept)}"]})


def retrieval_eval(case: Case) -> list[Check]:
    tower = tower_of(case)
    load_vision(tower, open_checkpoint(case.state))
    is_gated = case.config.get("out_norm") is not None
    adapter = adapter_of(tower, read_adapter(open_checkpoint(case.state), side="retrieval", gated=is_gated))
    encoder = VideoEncoder(tower, adapter)
    states = trunk_states(encoder, case.inputs["pixel_values"])
    got = _branch_outputs(encoder, states)
    got["final_clip"] = states[-1].flatten(0, 1)
    got["video_embed"] = encoder.retrieve_from_trunk(states)
    return case.compare(got)


def clip_baseline_eval(case: Case) -> list[Check]:
    tower = tower_of(case)
    load_vision(tower, open_checkpoint(case.state))
    encoder = VideoEncoder(tower, None)
    states = trunk_states(encoder, case.inputs["pixel_values"])
    embed = encoder.retrieve_from_trunk(states)
    return case.compare({"final_clip": states[-1].flatten(0, 1), "video_embed": embed})


def tower_of(case: Case) -> ClipVisionTower:
    """A tower of the case's configuration, not filled."""
    vision = case.config["vision"]
    return ClipVisionTower(_eva(vision) if "embed_dim" in vision else ClipVisionConfig.from_hf(vision))


def _eva(vision: Mapping[str, Any]) -> ClipVisionConfig:
    """Of the names that the published EVA code gives its arguments."""
    return ClipVisionConfig(
        image_size=vision["img_size"],
        patch_size=vision["patch_size"],
        width=vision["embed_dim"],
        num_layers=vision["depth"],
        num_heads=vision["num_heads"],
        mlp_width=int(vision["embed_dim"] * vision["mlp_ratio"]),
        projection_dim=vision["num_classes"],
        eps=1e-6,
        family="eva",
        act="gelu",
    )


def adapter_of(tower: ClipVisionTower, weights: AdapterWeights) -> BTAdapter:
    """A branch with its weights."""
    adapter = BTAdapter(tower.config, weights.config)
    load_adapter(adapter, weights, tower)
    return adapter


def trunk_states(encoder: VideoEncoder, pixels: Tensor) -> list[Tensor]:
    """The hidden states that retrieval starts from. (B, T, 3, H, W) -> each (B, T, 1 + P, D)."""
    return list(hidden_states(encoder.tower, pixels, encoder.reads).values())


def _is_halved(case: Case) -> bool:
    return case.config["T"] <= HALVED_UP_TO


def _all_but(tower: ClipVisionTower, *kept: str) -> tuple[str, ...]:
    return tuple(name for name in tower.state_dict() if not name.startswith(kept))


def _chat_outputs(encoder: VideoEncoder, case: Case) -> dict[str, Tensor]:
    assert encoder.adapter is not None
    pixels = case.inputs["pixel_values"][None]
    states = trunk_states(encoder, pixels)
    got = _branch_outputs(encoder, states)
    first = encoder.tower.config.num_layers - encoder.adapter.config.num_layers + 1
    got |= _combined(encoder, states, first)
    cls, video, gate = states[-1][0, :, 0], got["final_branch"][0, 0], encoder.adapter.output_gate
    mixed = cls + video if gate is None else gate * cls + (1 - gate) * video
    got["pooler_output"] = encoder.tower.post_layernorm(mixed)
    got["final_clip"] = states[-1][0]
    got["video_tokens"] = patches_cls(encoder.chat(pixels))[0]
    return got


def _combined(encoder: VideoEncoder, states: Sequence[Tensor], first: int) -> dict[str, Tensor]:
    """Trunk and branch averaged, after each branch layer."""
    return {
        f"combined.{first + k}": patches_cls(encoder.chat_from_trunk(states[: k + 1]))
        for k in range(len(states))
    }


def _branch_outputs(encoder: VideoEncoder, states: Sequence[Tensor]) -> dict[str, Tensor]:
    """The branch after each layer, and before and after time in its first layer."""
    adapter = encoder.adapter
    assert adapter is not None
    temporal, spatial = adapter.temporal[0], adapter.spatial[0]
    assert isinstance(spatial, nn.Module)
    norm = spatial.get_submodule("layer_norm1")
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for layer in (temporal, norm)
    ]
    branch = [adapter(states[:1], encoder.tower.position, upstream_compat=encoder.upstream_compat)[-1]]
    for hook in hooks:
        hook.remove()
    branch += [
        adapter(states[: k + 1], encoder.tower.position, upstream_compat=encoder.upstream_compat)[-1]
        for k in range(1, len(states))
    ]
    before, frames = seen[:2]  # (B, T', M', D) and (B, T', 1 + M', D)
    num_frames = branch[0].patches.shape[1]
    cls = frames[:, 0, 0]
    got = {f"branch_out.{k}": _golden_order(state) for k, state in enumerate(branch)}
    got["branch_in.0"] = _golden_order(BranchState(_ungroup(before, num_frames), cls))
    got["branch_after_time.0"] = _golden_order(BranchState(_ungroup(frames[:, :, 1:], num_frames), cls))
    got["final_branch"] = got[f"branch_out.{len(states) - 1}"]
    return got


def _ungroup(patches: Tensor, num_frames: int) -> Tensor:
    """The published grouping puts frames t and t + T/2 beside each other."""
    return rearrange(patches, "b t (m h) d -> b (h t) m d", h=num_frames // patches.shape[1])


def _golden_order(state: BranchState) -> Tensor:
    """-> (B, 1 + P * T, D), the frame index fastest."""
    return torch.cat([state.cls[:, None], rearrange(state.patches, "b t p d -> b (p t) d")], dim=1)
