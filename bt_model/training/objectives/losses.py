"""The contrastive loss and the token alignment as pure functions (reference-behaviour 6.3).

All are computed in float32, whatever the number format of the rest: a cosine in bfloat16 is off by up to
0.004, which the temperature of 0.01 makes 0.4.

B clips, T frames, M visible patches, E joint embedding width.
"""

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, normalize

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
TEMPERATURE = 0.01


def contrastive(
    a: "Tensor", b: "Tensor", group: "Tensor | None" = None, *, scale: "float | Tensor" = 1 / TEMPERATURE
) -> "Tensor":
    """InfoNCE of matching rows in both directions, summed. Two (B, E) -> scalar.

    Rows of one `group` (B,) all match each other: the same caption can stand in a batch more than once.
    """
    # on the meta device, where operations are only counted, there is no number format to leave
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
