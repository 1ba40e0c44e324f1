"""Zero-shot recognition (reference-behaviour section 9). n videos, C classes, E joint width."""

from typing import TYPE_CHECKING

from torch.nn.functional import normalize

if TYPE_CHECKING:
    from torch import Tensor


def accuracy(video: "Tensor", classes: "Tensor", labels: "Tensor", most: int) -> float:
    """The share of videos (n, E) whose class, `labels` (n,), is among the `most` nearest of (C, E)."""
    scores = normalize(video, dim=1) @ normalize(classes, dim=1).T
    found = scores.topk(most, dim=1).indices == labels[:, None]
    return float(found.any(dim=1).double().mean())
