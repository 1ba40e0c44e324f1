"""One step of video-text pre-training: a batch in, its losses out. The loop does the rest.

B samples, T frames, P patches, M visible patches, D width, E joint width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.training.config import LossWeights
from bt_model.training.objectives.captioner import Captions, read_features
from bt_model.training.objectives.gather import Gather, gather
from bt_model.training.objectives.losses import contrastive, token_alignment

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.clip import ClipVisionTower
    from bt_model.vision.encoder import TemporalEncoder


class AlignmentHead(nn.Sequential):
    """`extra_proj` of the published checkpoint: branch patches into the joint space. (..., D) -> (..., E)."""

    def __init__(self, width: int, joint: int) -> None:
        super().__init__(nn.Linear(width, joint), nn.LayerNorm(joint))


@dataclass(frozen=True, slots=True)
class PretrainLosses:
    """The losses, weighted."""

    vtc: "Tensor"
    mbta: "Tensor"
    mbca: "Tensor"

    @property
    def total(self) -> "Tensor":
        return self.vtc + self.mbta + self.mbca


def pretrain_loss(
    encoder: "TemporalEncoder",
    head: AlignmentHead | None,
    states: "Sequence[Tensor]",
    captions: Captions,
    visible: "Tensor | None",
    weights: LossWeights,
) -> "Tensor":
    """All losses of a batch (reference-behaviour 6.3, with a true tube mask); without a branch, VTC alone.

    `states`: the hidden states `encoder.reads`, each (B, T, 1 + P, D); `visible` (B, M), or None where the
    branch sees every patch.
    """
    text, group = captions.text, captions.group
    features, beyond = read_features(encoder, states, visible, captions, weights)
    last, branch = features.trunk, features.branch
    video = encoder.embed_video(last, branch)
    if branch is None:
        return weights.vtc * contrastive(video, text, group)
    num_frames, num_patches = last.shape[1], last.shape[2] - 1
    shown = torch.arange(num_patches).expand(len(last), -1) if visible is None else visible
    pairs = torch.arange(num_frames, device=shown.device)[:, None] * num_patches + shown[:, None]
    seen = Seen(video, text, last, branch.patches, pairs)
    return sum(beyond.values(), pretrain_losses(encoder.trunk, head, seen, weights, group).total)


@dataclass(frozen=True, slots=True)
class Seen:
    """What trunk, branch and text tower made of a batch.

    Embeddings `video`, `text` (B, E); the trunk's last layer `last` (B, T, 1 + P, D); the branch's `patches`
    (B, T, M, D); `pairs` (B, T, M): the trunk token t * P + p that each of them is compared with.
    """

    video: "Tensor"
    text: "Tensor"
    last: "Tensor"
    patches: "Tensor"
    pairs: "Tensor"


def pretrain_losses(
    tower: "ClipVisionTower",
    head: nn.Module | None,
    seen: Seen,
    weights: LossWeights,
    group: "Tensor | None" = None,
    mode: Gather = "exact",
) -> PretrainLosses:
    """The three losses; a weight of 0 leaves one out. Without MBTA, no `head` is needed.

    Embeddings are compared across all ranks (objectives/gather.py); the token alignment needs no other rank.
    """
    mbta = mbca = seen.video.new_zeros(())
    text = gather(seen.text, mode)
    group = None if group is None else gather(group)
    if weights.mbta:
        assert head is not None, "the token alignment needs its head"
        index = seen.pairs.flatten(1)[..., None].expand(-1, -1, seen.last.shape[3])
        teacher = tower.project(seen.last[:, :, 1:].flatten(1, 2).gather(1, index))
        mbta = weights.mbta * token_alignment(head(seen.patches), teacher.unflatten(1, seen.pairs.shape[1:]))
    if weights.mbca:
        pooled = tower.visual_projection(seen.patches).mean(dim=(1, 2))
        mbca = weights.mbca * contrastive(gather(pooled, mode), text, group)
    vtc = weights.vtc * contrastive(gather(seen.video, mode), text, group)
    return PretrainLosses(vtc, mbta, mbca)
