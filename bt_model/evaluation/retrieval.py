"""Text-to-video retrieval: the one definition of R@k. n captions and their videos, E joint width.

Scores (n, n) hold a caption a row; its own video is on the diagonal. Two rules for ties with that video:

"every": each rank of a tie counts by itself, so that ties lengthen the list of ranks, as the published
evaluation has it. "shared": a tie of m videos counts 1 / m at each of its ranks, as if it were broken at
random; a model that is blind to what tells two videos apart reaches one half.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch.nn.functional import normalize

from bt_model.errors import require

if TYPE_CHECKING:
    from torch import Tensor

TieRule = Literal["every", "shared"]
TIE_RULES: tuple[TieRule, ...] = get_args(TieRule)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Shares found among the first 1, 5 and 10, in percent; median and mean rank, counted from 1."""

    r1: float
    r5: float
    r10: float
    median_rank: float
    mean_rank: float


def cosine_scores(one: "Tensor", other: "Tensor") -> "Tensor":
    """Embeddings (n, E) and (m, E) -> scores (n, m).

    Raises:
        InvalidValueError: embeddings of different widths.
    """
    allowed = f"rows of {one.shape[-1]} numbers"
    require(other.shape[1:] == one.shape[1:], "embeddings", tuple(other.shape), allowed)
    return normalize(one, dim=1) @ normalize(other, dim=1).T


def measure_retrieval(scores: "Tensor", ties: TieRule = "every") -> Retrieval:
    """What scores (n, n) tell under a rule for ties.

    Raises:
        InvalidValueError: not as many videos as captions.
    """
    shape = tuple(scores.shape)
    require(shape == (len(scores), len(scores)), "scores", shape, "n captions by n videos")
    if ties == "every":
        ordered = scores.sort(dim=1, descending=True).values
        ranks = (ordered == _own(scores)).nonzero()[:, 1].double()
        found = {k: (ranks < k).double() for k in (1, 5, 10)}
    else:
        ranks = _ahead(scores) + (_tied(scores).double() - 1) / 2
        found = {k: found_among(scores, k) for k in (1, 5, 10)}
    share = {k: float(hits.mean() * 100) for k, hits in found.items()}
    median = float(torch.quantile(ranks, 0.5))
    return Retrieval(share[1], share[5], share[10], median + 1, float(ranks.mean()) + 1)


def found_among(scores: "Tensor", most: int) -> "Tensor":
    """By caption (n,), whether its video is among the first `most`; a tie that reaches in, its share."""
    return ((most - _ahead(scores)) / _tied(scores)).clamp(0, 1).double()


def _own(scores: "Tensor") -> "Tensor":
    return scores.diagonal()[:, None]


def _ahead(scores: "Tensor") -> "Tensor":
    """How many videos stand before the own one (n,); what is not a number stands before everything."""
    return (~(scores <= _own(scores))).sum(dim=1)


def _tied(scores: "Tensor") -> "Tensor":
    """How many videos score like the own one, with it (n,)."""
    return (scores == _own(scores)).sum(dim=1).clamp(min=1)
