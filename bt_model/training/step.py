"""One optimisation step of each stage: a batch in, a loss out. The loop does the rest.

B samples, T frames, P patches, M visible patches, D width, E joint width, K video tokens, H LLM width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.training.config import LossWeights
from bt_model.training.gather import Gather, gather
from bt_model.training.losses import answer_loss, contrastive, token_alignment
from bt_model.vision.encoder import VideoEncoder

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.llama import Llama
    from bt_model.training.data import TokenBatch
    from bt_model.vision.clip import ClipVisionTower
    from bt_model.vision.encoder import ChatFeatures, TemporalEncoder


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
    text: "Tensor",
    group: "Tensor",
    visible: "Tensor | None",
    weights: LossWeights,
) -> "Tensor":
    """All losses of a batch (reference-behaviour 6.3, with a true tube mask); without a branch, VTC alone.

    `states`: the hidden states `encoder.reads`, each (B, T, 1 + P, D); `text` (B, E); `visible` (B, M), or
    None where the branch sees every patch.
    """
    extra = text.new_zeros(())
    if weights.chat or weights.anchor:
        assert isinstance(encoder, VideoEncoder)
        chat, features = encoder.both_from_trunk(states, visible=visible)
        extra = chat_losses(encoder, chat, visible, text, group, weights)
    else:
        features = encoder.features_from_trunk(states, visible=visible)
    last, branch = features.trunk, features.branch
    video = encoder.embed_video(last, branch)
    if branch is None:
        return weights.vtc * contrastive(video, text, group)
    num_frames, num_patches = last.shape[1], last.shape[2] - 1
    shown = torch.arange(num_patches).expand(len(last), -1) if visible is None else visible
    pairs = torch.arange(num_frames, device=shown.device)[:, None] * num_patches + shown[:, None]
    seen = Seen(video, text, last, branch.patches, pairs)
    return pretrain_losses(encoder.trunk, head, seen, weights, group).total + extra


def chat_losses(
    encoder: "VideoEncoder",
    chat: "ChatFeatures",
    visible: "Tensor | None",
    text: "Tensor",
    group: "Tensor",
    weights: LossWeights,
) -> "Tensor":
    """The two losses on what a chat model reads (`LossWeights`), weighted; `chat` and `visible` as above."""
    assert chat.branch is not None
    trunk = chat.trunk.mean(dim=1)  # (B, 1 + P, D)
    if visible is not None:
        shown = (1 + visible)[..., None].expand(-1, -1, trunk.shape[2])
        trunk = torch.cat([trunk[:, :1], trunk.gather(1, shown)], dim=1)
    branch = torch.cat([chat.branch.cls[:, None], chat.branch.patches.mean(dim=1)], dim=1)
    tower = encoder.trunk
    start = tower.config.num_layers - encoder.skip
    (picture,) = tower.advance(0.5 * (trunk + branch), start, (tower.config.num_layers,))
    aligned = contrastive(tower.project(picture[:, 0]), text, group)
    held = (branch - trunk).float().square().mean() / trunk.float().var()
    return weights.chat * aligned + weights.anchor * held


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

    Embeddings are compared across all ranks (training/gather.py); the token alignment needs no other rank.
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


def answer_logits(lm: "Llama", projector: nn.Module, video: "Tensor", batch: "TokenBatch") -> "Tensor":
    """Video tokens (B, K, D) spliced into the embedded dialogue -> logits (B, n, V)."""
    soft = projector(video)  # (B, K, H)
    embeds = lm.embed(batch.ids)
    embeds = embeds.masked_scatter(batch.is_video[..., None], soft.to(embeds.dtype))
    return lm(embeds, batch.is_real)


def instruct_loss(lm: "Llama", projector: nn.Module, video: "Tensor", batch: "TokenBatch") -> "Tensor":
    """Language loss on the answers about video tokens (B, K, D)."""
    return answer_loss(answer_logits(lm, projector, video, batch), batch.labels)


@torch.inference_mode()
def exact_answers(lm: "Llama", projector: nn.Module, video: "Tensor", batch: "TokenBatch") -> "Tensor":
    """Whether greedy decoding gives the one right answer of each row, (B,) bool.

    All answer tokens being most likely under teacher forcing is the same as greedy decoding giving them.
    """
    predicted = answer_logits(lm, projector, video, batch)[:, :-1].argmax(dim=-1)
    labels = batch.labels[:, 1:]
    return ((predicted == labels) | (labels < 0)).all(dim=1)


@torch.inference_mode()
def answer_scores(lm: "Llama", projector: nn.Module, video: "Tensor", batch: "TokenBatch") -> "Tensor":
    """The log probability of each row's answer, (B,) float32."""
    logits = answer_logits(lm, projector, video, batch)[:, :-1].float()
    labels = batch.labels[:, 1:]
    each = logits.log_softmax(dim=-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    return each.masked_fill(labels < 0, 0.0).sum(dim=1)
