"""Features of all ranks side by side, for losses that compare every sample with every other.

W ranks, B samples of each.
"""

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from torch import Tensor

Gather = Literal["exact", "published"]
GATHERS: tuple[Gather, ...] = get_args(Gather)


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
    published code does (reference-behaviour 6.3): these losses then count 1/W beside losses of single ranks.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    return _AllGather.apply(x, float(dist.get_world_size()) if mode == "exact" else 1.0)  # pyright: ignore[reportReturnType] - torch types `apply` as Any or None
