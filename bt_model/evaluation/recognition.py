"""Zero-shot recognition as the published evaluation counts it. n videos, C classes, E joint width."""

from typing import TYPE_CHECKING

from bt_model.errors import require
from bt_model.evaluation.retrieval import cosine_scores

if TYPE_CHECKING:
    from torch import Tensor


def accuracy(video: "Tensor", classes: "Tensor", labels: "Tensor", most: int) -> float:
    """The share of videos (n, E) whose class, `labels` (n,), is among the `most` nearest of (C, E).

    Raises:
        InvalidValueError: embeddings of different widths, or not a label for each video.
    """
    require(
        labels.shape == video.shape[:1], "labels", tuple(labels.shape), f"({len(video)},), as many as videos"
    )
    found = cosine_scores(video, classes).topk(most, dim=1).indices == labels[:, None]
    return float(found.any(dim=1).double().mean())
