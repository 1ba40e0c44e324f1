"""Losses on what a chat model reads, which go beyond the paper (`LossWeights`: chat, caption, anchor).

Pre-training as published looks at a branch's last layer; a chat model reads the one before it, where nothing
holds the branch to what the chat model knows. B clips, T frames, P patches, M visible ones, D width.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bt_model.training.config import LossWeights
from bt_model.training.objectives.answers import spliced, summed_loss
from bt_model.training.objectives.gather import Gather, gather
from bt_model.training.objectives.losses import contrastive
from bt_model.vision.encoder import VideoEncoder
from bt_model.vision.pool import patches_cls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from bt_model.generation.llama import Llama
    from bt_model.training.data.tokens import TokenBatch
    from bt_model.vision.encoder import ChatFeatures, TemporalEncoder


@dataclass(frozen=True, slots=True)
class Captioner:
    """A frozen chat model that captions pictures, and what it should say about the clips of a batch."""

    lm: "Llama"
    projector: "nn.Module"
    captions: "TokenBatch"

    def loss(self, video: "Tensor") -> "Tensor":
        """How unlikely it finds the captions when it reads the clips' tokens (B, P + 1, D).

        Every clip's mean over its caption's tokens counts alike, so that ranks need not know each other's.
        """
        embeds = spliced(self.lm.embed(self.captions.ids), self.projector(video), self.captions)
        shares = 1 / (self.captions.num_answer_tokens * len(video))
        return summed_loss(self.lm, embeds, self.captions, shares)


@dataclass(frozen=True, slots=True)
class Captions:
    """A batch's captions: their embeddings (B, E), equal ones' groups (B,), and who could say them."""

    text: "Tensor"
    group: "Tensor | None"
    captioner: Captioner | None = None


def read_features(
    encoder: "TemporalEncoder",
    states: "Sequence[Tensor]",
    visible: "Tensor | None",
    captions: Captions,
    weights: LossWeights,
    mode: Gather = "exact",
) -> "tuple[ChatFeatures, dict[str, Tensor]]":
    """What retrieval reads of the hidden states `encoder.reads`, and `chat_losses`, from one pass.

    Without such a loss nothing is kept of the layer that feeds a chat model.
    """
    if not weights.go_beyond:
        return encoder.features_from_trunk(states, visible=visible), {}
    assert isinstance(encoder, VideoEncoder)
    chat, features = encoder.both_from_trunk(states, visible=visible)
    return features, chat_losses(encoder, chat, visible, captions, weights, mode)


def chat_losses(
    encoder: "VideoEncoder",
    chat: "ChatFeatures",
    visible: "Tensor | None",
    captions: Captions,
    weights: LossWeights,
    mode: Gather = "exact",
) -> "dict[str, Tensor]":
    """The losses that have a weight, weighted, by name.

    `chat` is what `both_from_trunk` gives under the mask `visible`, (B, M) or None. The captions need their
    captioner where its loss has a weight. `chat` is that of all ranks, the others are this rank's own.
    """
    told: dict[str, Tensor] = {}
    trunk, branch = _halves(chat, visible)
    if weights.anchor:
        told["anchor"] = weights.anchor * _distance(branch.float(), trunk.float())
    if weights.chat:
        picture = gather(_as_picture(encoder, 0.5 * (trunk + branch)), mode)
        group = None if captions.group is None else gather(captions.group)
        told["chat"] = weights.chat * contrastive(picture, gather(captions.text, mode), group)
    if weights.caption:
        assert captions.captioner is not None, "the caption's loss needs its captioner"
        told["caption"] = weights.caption * captions.captioner.loss(chat_tokens(chat, visible))
    return told


def chat_tokens(chat: "ChatFeatures", visible: "Tensor | None") -> "Tensor":
    """Pooled as `patches_cls`, (B, P + 1, D), whatever the mask: a hidden patch is the trunk's alone."""
    if visible is None:
        return patches_cls(chat)
    trunk, branch = _halves(chat, visible)
    whole = chat.trunk.mean(dim=1)
    mixed = whole.scatter(1, _places(visible, whole), 0.5 * (trunk + branch).to(whole.dtype))
    return torch.cat([mixed[:, 1:], mixed[:, :1]], dim=1)


def _halves(chat: "ChatFeatures", visible: "Tensor | None") -> "tuple[Tensor, Tensor]":
    """Trunk and branch, averaged over time: each (B, 1 + M, D), CLS first."""
    assert chat.branch is not None
    trunk = chat.trunk.mean(dim=1)
    if visible is not None:
        trunk = trunk.gather(1, _places(visible, trunk))
    return trunk, torch.cat([chat.branch.cls[:, None], chat.branch.patches.mean(dim=1)], dim=1)


def _distance(branch: "Tensor", trunk: "Tensor") -> "Tensor":
    """Mean square between two (B, 1 + M, D), in units of each clip's own variance in the trunk."""
    return ((branch - trunk).square().mean(dim=(1, 2)) / trunk.var(dim=(1, 2))).mean()


def _places(visible: "Tensor", tokens: "Tensor") -> "Tensor":
    """Where CLS and the visible patches stand among all tokens, (B, 1 + M, D)."""
    places = torch.cat([torch.zeros_like(visible[:, :1]), 1 + visible], dim=1)
    return places[..., None].expand(-1, -1, tokens.shape[2])


def _as_picture(encoder: "VideoEncoder", tokens: "Tensor") -> "Tensor":
    """What the rest of the frozen trunk makes of them, as if they were one picture's: (B, E)."""
    tower = encoder.trunk
    start = tower.config.num_layers - encoder.skip
    (last,) = tower.advance(tokens, start, (tower.config.num_layers,))
    return tower.project(last[:, 0])
