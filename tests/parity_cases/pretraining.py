"""The published pre-training step: tokens, losses and every gradient; and the published metrics.

B clips, T frames, P patches, M visible patches, D width.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from bt_model.checkpoints.export import published
from bt_model.checkpoints.layouts.clip import RETRIEVAL
from bt_model.checkpoints.layouts.eva import EVA_RETRIEVAL
from bt_model.checkpoints.load import load_part, load_vision, read_adapter
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.config import ClipTextConfig, ClipVisionConfig
from bt_model.evaluation.recognition import accuracy
from bt_model.evaluation.retrieval import cosine_scores, measure_retrieval
from bt_model.text.clip_text import ClipTextTower
from bt_model.training.data.sampling import Masks, published_layout
from bt_model.training.objectives.contrastive import (
    AlignmentHead,
    BatchFeatures,
    LossWeights,
    PretrainLosses,
    pretrain_losses,
)
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import VideoEncoder
from tests.parity_cases.case import Case, Check, relative_error
from tests.parity_cases.language import eva_text_config
from tests.parity_cases.vision import adapter_of, tower_of, trunk_states

GRADIENT_TOLERANCE = 5e-5  # cases.json, recommended_tolerance
NAMES = {"vtc": "NCE_loss", "mbta": "clip_branch_mask_mse_loss", "mbca": "branch_text_nce_loss"}


def weights_of(config: Mapping[str, Any]) -> LossWeights:
    """Published names of the weights; a loss that is not named is not computed."""
    mbta, mbca = (config.get(name, 0.0) for name in ("clip_branch_mask_mse_extra", "branch_text_nce"))
    return LossWeights(1.0, mbta, mbca)


def step(case: Case) -> list[Check]:
    with torch.enable_grad():
        return _step(case)


def _step(case: Case) -> list[Check]:
    tower = tower_of(case)
    load_vision(tower, open_checkpoint(case.state))
    is_gated = case.config.get("out_norm") is not None
    adapter = adapter_of(tower, read_adapter(open_checkpoint(case.state), side="retrieval", gated=is_gated))
    text = _text(case)
    head = _head(tower, case.state)
    for module in (tower, text):
        module.requires_grad_(requires_grad=False)
    states = trunk_states(VideoEncoder(tower, adapter), case.inputs["pixel_values"])
    masks = _masks(case)
    branch = adapter(states, tower.position, visible=masks.visible)[-1]
    video = VideoEncoder(tower, adapter).embed_video(states[-1], branch)
    embeds = text(case.inputs["token_ids"])
    features = BatchFeatures(video, embeds, states[-1], branch.patches, masks.pairs)
    losses = pretrain_losses(tower, head, features, weights_of(case.config["pretrain"]))
    losses.total.backward()
    patches = rearrange(branch.patches, "b t m d -> b (m t) d")
    got = {
        "final_clip": states[-1].flatten(0, 1),
        "final_branch": torch.cat([branch.cls[:, None], patches], dim=1),
        "video_embed": video,
        "text_embed": embeds,
        **_named(losses),
    }
    grads = _gradients(tower, adapter, head)
    return [*_values(case, got), *_compared(case, grads)]


def losses(case: Case) -> list[Check]:
    with torch.enable_grad():
        return _losses(case)


def _losses(case: Case) -> list[Check]:
    sizes = case.config
    frames, patches, width, joint = (sizes[name] for name in ("T", "N", "D", "P"))
    tower = ClipVisionTower(ClipVisionConfig(1, 1, width, 0, 1, 1, joint))
    rest = ("class_embedding", "patch_embedding.", "position_embedding.", "pre_layrnorm.")
    load_part(tower, open_checkpoint(case.state), "vision", may_miss=rest)
    head = AlignmentHead(width, joint)
    load_part(head, open_checkpoint(case.state), "extra_proj")
    inputs = {
        name: case.inputs[name].clone().requires_grad_()
        for name in ("video_embed", "text_embed", "clip_tokens", "branch_tokens")
    }
    pairs = published_layout(case.inputs["mask"], frames).pairs
    last = rearrange(inputs["clip_tokens"], "(b t) n d -> b t n d", t=frames)
    assert last.shape[2] == 1 + patches
    shown = rearrange(inputs["branch_tokens"][:, 1:], "b (m t) d -> b t m d", t=frames)
    features = BatchFeatures(inputs["video_embed"], inputs["text_embed"], last, shown, pairs)
    found = pretrain_losses(tower, head, features, weights_of(sizes["weights"]))
    found.total.backward()
    unit = {
        name: nn.functional.normalize(inputs[name].detach(), dim=1) for name in ("video_embed", "text_embed")
    }
    got = {**_named(found), "sim_matrix": unit["video_embed"] @ unit["text_embed"].T}
    grads = {f"input.{name}": tensor.grad for name, tensor in inputs.items()}
    return [*_values(case, got), *_compared(case, {**_gradients(tower, None, head), **grads})]


def metrics(case: Case) -> list[Check]:
    found = measure_retrieval(cosine_scores(case.inputs["text_features"], case.inputs["video_features"]))
    features = case.inputs["recognition_video_features"], case.inputs["class_features"], case.inputs["labels"]
    expected, recognised = case.facts["retrieval"], case.facts["recognition"]
    got = {
        "R1": (found.recall[1], expected["R1"]), "R5": (found.recall[5], expected["R5"]),
        "R10": (found.recall[10], expected["R10"]),
        "MdR": (found.median_rank, expected["MdR"]), "MnR": (found.mean_rank, expected["MnR"]),
        "top-1": (accuracy(*features, 1), recognised["overall_acc1"]),
        "top-5": (accuracy(*features, 5), recognised["overall_acc5"]),
    }  # fmt: skip
    return [Check(name, abs(mine - theirs), 1e-6 * max(1.0, theirs)) for name, (mine, theirs) in got.items()]


def _masks(case: Case) -> Masks:
    """Where the branch's tokens come from, and what each is compared with; a true tube compares equals."""
    masks = published_layout(case.inputs["mask"], case.config["T"])
    if "mask_frame_major" not in case.inputs:
        return masks
    assert masks.visible is not None
    return replace(masks, pairs=masks.visible)


def _text(case: Case) -> ClipTextTower:
    text = case.config["text"]
    config = eva_text_config(text) if "heads" in text else ClipTextConfig.from_hf(text)
    tower = ClipTextTower(config)
    load_part(tower, open_checkpoint(case.state), "text")
    return tower


def _head(tower: ClipVisionTower, state: Mapping[str, Tensor]) -> AlignmentHead | None:
    if "extra_proj" not in open_checkpoint(state).parts:
        return None
    head = AlignmentHead(tower.config.width, tower.config.projection_dim)
    load_part(head, open_checkpoint(state), "extra_proj")
    return head


def _named(losses: PretrainLosses) -> dict[str, Tensor]:
    found = {f"loss.{name}": getattr(losses, ours) for ours, name in NAMES.items()}
    return {**found, "loss.total": losses.total}


def _gradients(
    tower: ClipVisionTower, adapter: nn.Module | None, head: nn.Module | None
) -> dict[str, Tensor | None]:
    """Gradients under the published names, queries, keys and values in one where they are stored so."""
    modules = {"vision": tower, "adapter": adapter, "extra_proj": head}
    parts = {
        part: {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}
        for part, module in modules.items()
        if module is not None
    }
    keys = EVA_RETRIEVAL if tower.config.family == "eva" else RETRIEVAL
    return dict(published(parts, replace(keys, name="gradients")))


def _values(case: Case, got: Mapping[str, Tensor]) -> list[Check]:
    wanted = {name: t for name, t in case.expects.items() if not name.startswith("grad.")}
    return replace(case, expects=wanted).compare({name: tensor.detach() for name, tensor in got.items()})


def _compared(case: Case, grads: Mapping[str, Tensor | None]) -> list[Check]:
    wanted = {name.removeprefix("grad."): t for name, t in case.expects.items() if name.startswith("grad.")}
    checks: list[Check] = []
    for name, expected in wanted.items():
        mine = grads.get(name)
        error = float("inf") if mine is None else relative_error(mine, expected)
        checks.append(Check(f"grad.{name}", error, GRADIENT_TOLERANCE))
    return checks
