"""The losses of the paper's pre-training, from what the towers give for a batch.

B samples, T frames, P patches, M visible patches, D width, E joint width.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from bt_model.training.config import LossWeights
from bt_model.training.objectives.gather import Gather, gather
from bt_model.training.objectives.losses import contrastive, token_alignment

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.clip import ClipVisionTower


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


@dataclass(frozen=True, slots=True)
class BatchFeatures:
    """What trunk, branch and text tower give for a batch.

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
    features: BatchFeatures,
    weights: LossWeights,
    group: "Tensor | None" = None,
    mode: Gather = "exact",
) -> PretrainLosses:
    """The three losses; a weight of 0 leaves one out. Without MBTA, no `head` is needed.

    Embeddings are compared across all ranks (objectives/gather.py); the token alignment needs no other rank.
    """
    mbta = mbca = features.video.new_zeros(())
    text = gather(features.text, mode)
    group = None if group is None else gather(group)
    if weights.mbta:
        assert head is not None, "the token alignment needs its head"
        index = features.pairs.flatten(1)[..., None].expand(-1, -1, features.last.shape[3])
        teacher = tower.project(features.last[:, :, 1:].flatten(1, 2).gather(1, index))
        teacher = teacher.unflatten(1, features.pairs.shape[1:])
        mbta = weights.mbta * token_alignment(head(features.patches), teacher)
    if weights.mbca:
        pooled = tower.visual_projection(features.patches).mean(dim=(1, 2))
        mbca = weights.mbca * contrastive(gather(pooled, mode), text, group)
    vtc = weights.vtc * contrastive(gather(features.video, mode), text, group)
    return PretrainLosses(vtc, mbta, mbca)
