"""Text-to-video retrieval (reference-behaviour section 9). n captions and their videos, E joint width."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Shares found among the first 1, 5 and 10, in percent; median and mean rank, counted from 1."""

    r1: float
    r5: float
    r10: float
    median_rank: float
    mean_rank: float


def retrieval(text: "Tensor", video: "Tensor") -> Retrieval:
    """Embeddings (n, E) each, row by row of a pair, by cosine.

    Of equal scores every rank counts, as in the published code: a tie with the right video is several ranks.
    """
    scores = normalize(text, dim=1) @ normalize(video, dim=1).T
    ordered = scores.sort(dim=1, descending=True).values
    ranks = (ordered == scores.diagonal()[:, None]).nonzero()[:, 1].double()
    share = {k: float((ranks < k).double().mean() * 100) for k in (1, 5, 10)}
    return Retrieval(
        share[1], share[5], share[10], float(torch.quantile(ranks, 0.5)) + 1, float(ranks.mean()) + 1
    )
