"""What one batch of clips and captions gives: its losses, as a module that DDP and FSDP can wrap.

B clips, T frames, H height, W width, P patches, M visible patches, n token positions.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.training.config import LossWeights
from bt_model.training.objectives.alignment import AlignmentHead, Seen, pretrain_losses
from bt_model.training.objectives.captioner import Captioner, Captions, read_features
from bt_model.training.objectives.gather import Gather
from bt_model.video.transform import normalise_retrieval

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.text.clip_text import ClipTextTower
    from bt_model.training.data.tokens import TokenBatch
    from bt_model.training.pretrain.captioner import CaptionerModel
    from bt_model.vision.encoder import TemporalEncoder


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Clips with captions, and everything about them that was drawn.

    `pixels` (B, T, H, W, 3) uint8; `ids` (B, n); `group` (B,): equal captions, equal numbers. `visible` is
    BTAdapter's, (B, M) or (B, T, M), None without a mask; `pairs` (B, T, M) are the trunk tokens t * P + p
    that the branch's are compared with. `spelt` are the captions as the captioner is to say them.
    """

    pixels: "Tensor"
    ids: "Tensor"
    group: "Tensor"
    visible: "Tensor | None"
    pairs: "Tensor"
    num_skipped: int = 0
    spelt: "TokenBatch | None" = None

    def to(self, device: torch.device) -> "ClipBatch":
        """The same batch on a device."""

        def move(x: "Tensor") -> "Tensor":
            return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)

        visible = None if self.visible is None else move(self.visible)
        pixels, ids, group, pairs = (move(x) for x in (self.pixels, self.ids, self.group, self.pairs))
        spelt = None if self.spelt is None else self.spelt.to(device)
        return ClipBatch(pixels, ids, group, visible, pairs, self.num_skipped, spelt)


class PretrainStep(nn.Module):
    """Frozen towers, a temporal model and the alignment head; the batch is its only input.

    `head` is None where the token alignment has no weight; `captioner` is set where the captions' loss has
    one. With `merged`, clips of equal captions match each other; as published, every other clip is a
    negative.
    """

    def __init__(
        self,
        encoder: "TemporalEncoder",
        text: "ClipTextTower",
        head: AlignmentHead | None,
        weights: LossWeights,
        *,
        mode: Gather = "exact",
        merged: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.text = text.requires_grad_(requires_grad=False)
        self.head = head
        self.captioner: CaptionerModel | None = None
        self.weights = weights
        self.mode: Gather = mode
        self.merged = merged

    def forward(self, batch: ClipBatch) -> "dict[str, Tensor]":
        """The weighted losses: `vtc`, `mbta`, `mbca`, and those of `chat_losses` that have a weight.

        `mbta`, `caption` and `anchor` are this rank's own, the others those of all ranks.
        """
        encoder = self.encoder
        with torch.no_grad():
            pixels = normalise_retrieval(batch.pixels.flatten(0, 1)).unflatten(0, batch.pixels.shape[:2])
            states = encoder.trunk_states(pixels)
            text = self.text(batch.ids)
        group = batch.group if self.merged else None
        captions = Captions(text, group, self._captioner(batch))
        features, beyond = read_features(encoder, states, batch.visible, captions, self.weights, self.mode)
        last, branch = features.trunk, features.branch
        patches = last[:, :, 1:] if branch is None else branch.patches
        seen = Seen(encoder.embed_video(last, branch), text, last, patches, batch.pairs)
        told = pretrain_losses(encoder.trunk, self.head, seen, self.weights, group, self.mode)
        return {"vtc": told.vtc, "mbta": told.mbta, "mbca": told.mbca, **beyond}

    def _captioner(self, batch: ClipBatch) -> Captioner | None:
        if self.captioner is None:
            return None
        assert batch.spelt is not None, "the captioner needs captions in its own tokens"
        return Captioner(self.captioner.lm, self.captioner.projector, batch.spelt)

    def learning(self) -> dict[str, nn.Module]:
        """What training updates, by part of a checkpoint (checkpoints/keys.py)."""
        head = {} if self.head is None else {"extra_proj": self.head}
        return {**self.encoder.trainable(), **head}
