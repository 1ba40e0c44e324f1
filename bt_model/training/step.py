"""One optimisation step of each stage: a batch in, a loss out. The loop does the rest.

B samples, T frames, P patches, M visible patches, D width, E joint width, K video tokens, H LLM width.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.training.config import LossWeights
from bt_model.training.losses import answer_loss, contrastive, token_alignment

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.llama import Llama
    from bt_model.training.data import TokenBatch
    from bt_model.vision.encoder import VideoEncoder


class AlignmentHead(nn.Sequential):
    """`extra_proj` of the published checkpoint: branch patches into the joint space. (..., D) -> (..., E)."""

    def __init__(self, width: int, joint: int) -> None:
        super().__init__(nn.Linear(width, joint), nn.LayerNorm(joint))


def pretrain_loss(
    encoder: "VideoEncoder",
    head: AlignmentHead,
    states: "Sequence[Tensor]",
    text: "Tensor",
    group: "Tensor",
    visible: "Tensor",
    weights: LossWeights,
) -> "Tensor":
    """VTC + MBTA + MBCA on the visible patches (reference-behaviour 6.3, with a true tube mask).

    `states`: the last K trunk layers (B, T, 1 + P, D); `text` (B, E); `visible` (B, M).
    """
    assert encoder.adapter is not None
    tower, last = encoder.tower, states[-1]
    branch = encoder.adapter(states, tower.position, visible=visible)
    vtc = contrastive(encoder.embed_video(last, branch), text, group)
    index = visible[:, None, :, None].expand(-1, last.shape[1], -1, last.shape[3])
    with torch.no_grad():
        teacher = tower.project(last[:, :, 1:].gather(2, index))
    mbta = token_alignment(head(branch.patches), teacher)
    mbca = contrastive(tower.visual_projection(branch.patches).mean(dim=(1, 2)), text, group)
    return weights.vtc * vtc + weights.mbta * mbta + weights.mbca * mbca


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
