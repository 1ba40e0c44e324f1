"""The three losses of the paper's pre-training: VTC, MBCA contrast clips with captions, MBTA aligns tokens.

All are computed in float32, whatever the number format of the rest: a cosine in bfloat16 is off by up to
0.004, which the temperature of 0.01 makes 0.4.

B clips of a rank, W ranks, T frames, P patches, M visible patches, D width, E joint embedding width.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, normalize

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.clip import ClipVisionTower

TEMPERATURE = 0.01
BEYOND = ("chat", "caption", "anchor")  # losses that the paper does not have


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the three pre-training losses (paper, section 3.2), and of three that go beyond the paper.

    All three act on the tokens that a chat model reads. `chat`: contrastive loss with the caption, after the
    rest of the frozen trunk has run over them as over one picture's. `caption`: negative log-likelihood of
    the caption under a frozen picture captioner. `anchor`: distance of the branch half to the trunk's mean.
    """

    vtc: float = 1.0
    mbta: float = 1.0
    mbca: float = 1.0
    chat: float = 0.0
    caption: float = 0.0
    anchor: float = 0.0

    @property
    def go_beyond(self) -> bool:
        """Whether a loss that is not in the paper has a weight."""
        return any(getattr(self, name) for name in BEYOND)


def contrastive(
    a: "Tensor", b: "Tensor", group: "Tensor | None" = None, *, scale: "float | Tensor" = 1 / TEMPERATURE
) -> "Tensor":
    """InfoNCE of matching rows in both directions, summed. Two (B, E) -> scalar.

    Rows of one `group` (B,) all match each other: the same caption can stand in a batch more than once.
    """
    # autocast does not exist on the meta device, where operations are only counted
    with nullcontext() if a.is_meta else torch.autocast(a.device.type, enabled=False):
        logits = scale * normalize(a.float(), dim=1, eps=1e-8) @ normalize(b.float(), dim=1, eps=1e-8).T
    if group is None:
        group = torch.arange(len(a), device=a.device)
    same = (group[:, None] == group[None]).to(logits.dtype)
    target = same / same.sum(dim=1, keepdim=True)
    return cross_entropy(logits, target) + cross_entropy(logits.T, target)


def token_alignment(student: "Tensor", teacher: "Tensor") -> "Tensor":
    """MBTA: mean squared distance of unit vectors, 2 - 2 cos. Two (B, T, M, E), the same tokens -> scalar."""
    cosine = (normalize(student.float(), dim=-1) * normalize(teacher.float(), dim=-1)).sum(-1)
    return (2 - 2 * cosine).mean()


Gather = Literal["exact", "published"]


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: "Tensor", factor: float) -> "Tensor":
        ctx.factor, ctx.count = factor, len(x)
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: "Tensor") -> "tuple[Tensor, None]":  # pyright: ignore[reportIncompatibleMethodOverride] - one argument for the one output
        first = dist.get_rank() * ctx.count
        return gradient[first : first + ctx.count] * ctx.factor, None


def gather(x: "Tensor", mode: Gather = "exact") -> "Tensor":
    """The rows of all ranks, in their order. (B, ...) -> (W B, ...); in a single process x itself.

    Every rank computes the same loss from the same rows, so the gradient of the sum of all ranks' losses is
    W times that of this rank's, and no rank needs to ask. Averaged over ranks by DDP or FSDP, "exact" gives
    the gradient of one process that has the whole batch. "published" leaves the factor W out, as the
    published code does: these losses then count 1/W beside losses of single ranks.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    return _AllGather.apply(x, float(dist.get_world_size()) if mode == "exact" else 1.0)  # pyright: ignore[reportReturnType] - torch types `apply` as Any or None


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
    (B, T, M, D); `pairs` (B, T, M): index t * P + p of the trunk token that each of them is compared with.
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

    Embeddings are compared across all ranks; the token alignment needs no other rank.
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
