"""Losses on the chat model's input, which go beyond the paper (`LossWeights`: chat, caption, anchor).

Published pre-training has losses on the branch's last layer only; a chat model reads the layer before it,
which no loss ties to the features that it was trained on. B clips, T frames, P patches, M visible, D width.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.training.objectives.answers import spliced, summed_loss
from bt_model.training.objectives.contrastive import Gather, contrastive, gather
from bt_model.vision.pool import patches_cls

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.llama import Llama
    from bt_model.training.data.tokens import TokenBatch
    from bt_model.vision.encoder import ChatFeatures, TemporalEncoder

CAPTION_REQUEST = "Describe what you see."


class Captioner(nn.Module):
    """A frozen chat model that captions pictures: a projector before a language model."""

    def __init__(self, lm: "Llama", projector: nn.Module) -> None:
        super().__init__()
        self.lm = lm
        self.projector = projector
        self.requires_grad_(requires_grad=False)

    def loss(self, video: "Tensor", captions: "TokenBatch") -> "Tensor":
        """The captions' negative log-likelihood, given the clips' tokens (B, P + 1, D).

        The mean over clips of each clip's mean over tokens, so ranks need no token counts of other ranks.
        """
        embeds = spliced(self.lm.embed(captions.ids), self.projector(video), captions)
        shares = 1 / (captions.num_answer_tokens * len(video))
        return summed_loss(self.lm, embeds, captions, shares)


def anchor_loss(chat: "ChatFeatures", visible: "Tensor | None") -> "Tensor":
    """How far the branch lies from the trunk's mean over time, in units of each clip's own variance there.

    `chat` is what `both_from_trunk` gives under the mask `visible`, (B, M) or None. This rank's own.
    """
    trunk, branch = (x.float() for x in _halves(chat, visible))
    return ((branch - trunk).square().mean(dim=(1, 2)) / trunk.var(dim=(1, 2))).mean()


def picture_loss(
    encoder: "TemporalEncoder",
    chat: "ChatFeatures",
    visible: "Tensor | None",
    text: "Tensor",
    group: "Tensor | None",
    mode: Gather = "exact",
) -> "Tensor":
    """Contrast of captions (B, E) with what a chat model reads, as if a picture's, seen by the trunk's end.

    `group` and the comparison across ranks are those of `pretrain_losses`.
    """
    trunk, branch = _halves(chat, visible)
    picture = gather(_as_picture(encoder, 0.5 * (trunk + branch)), mode)
    return contrastive(picture, gather(text, mode), None if group is None else gather(group))


def chat_tokens(chat: "ChatFeatures", visible: "Tensor | None") -> "Tensor":
    """Pooled as `patches_cls`, (B, P + 1, D), under any mask: hidden patches come from the trunk alone."""
    if visible is None:
        return patches_cls(chat)
    trunk, branch = _halves(chat, visible)
    whole = chat.trunk.mean(dim=1)
    mixed = whole.scatter(1, _token_indices(visible, whole), 0.5 * (trunk + branch).to(whole.dtype))
    return torch.cat([mixed[:, 1:], mixed[:, :1]], dim=1)


def _halves(chat: "ChatFeatures", visible: "Tensor | None") -> "tuple[Tensor, Tensor]":
    """Trunk and branch, averaged over time: each (B, 1 + M, D), CLS first."""
    assert chat.branch is not None
    trunk = chat.trunk.mean(dim=1)
    if visible is not None:
        trunk = trunk.gather(1, _token_indices(visible, trunk))
    return trunk, torch.cat([chat.branch.cls[:, None], chat.branch.patches.mean(dim=1)], dim=1)


def _token_indices(visible: "Tensor", tokens: "Tensor") -> "Tensor":
    """Indices of CLS and of the visible patches among all tokens, (B, 1 + M, D)."""
    indices = torch.cat([torch.zeros_like(visible[:, :1]), 1 + visible], dim=1)
    return indices[..., None].expand(-1, -1, tokens.shape[2])


def _as_picture(encoder: "TemporalEncoder", tokens: "Tensor") -> "Tensor":
    """Run the rest of the frozen trunk over the tokens as if they were one picture's: (B, E)."""
    tower = encoder.trunk
    start = tower.config.num_layers - encoder.skip
    (last,) = tower.advance(tokens, start, (tower.config.num_layers,))
    return tower.project(last[:, 0])
