"""Text-to-video retrieval: the one definition of R@k. n captions and their videos, E joint width.

Scores (n, n) hold a caption a row; its own video is on the diagonal. Two rules for ties with that video:

"every": each rank of a tie counts by itself, so that ties lengthen the list of ranks, as the published
evaluation has it. "shared": a tie of m videos counts 1 / m at each of its ranks, as if it were broken at
random; a model that is blind to what tells two videos apart reaches one half.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch.nn.functional import normalize

from bt_model.errors import require

if TYPE_CHECKING:
    from torch import Tensor

TieRule = Literal["every", "shared"]
TIE_RULES: tuple[TieRule, ...] = get_args(TieRule)
RECALL_AT = (1, 5, 10)  # the k of R@k


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Shares found among the first k, in percent, by k; median and mean rank, counted from 1."""

    recall: Mapping[int, float]
    median_rank: float
    mean_rank: float

    def figures(self) -> dict[str, float]:
        """All of them by the names that papers use."""
        shares = {f"R@{k}": share for k, share in self.recall.items()}
        return {**shares, "MdR": self.median_rank, "MnR": self.mean_rank}


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
        InvalidValueError: not as many videos as captions, or scores that are no numbers.
    """
    shape = tuple(scores.shape)
    require(shape == (len(scores), len(scores)), "scores", shape, "n captions by n videos")
    require(bool(scores.isfinite().all()), "scores", "partly infinite or no number", "finite numbers")
    if ties == "every":
        ordered = scores.sort(dim=1, descending=True).values
        ranks = (ordered == _own(scores)).nonzero()[:, 1].double()
        found = {k: (ranks < k).double() for k in RECALL_AT}
    else:
        ranks = _ahead(scores) + (_tied(scores).double() - 1) / 2
        found = {k: found_among(scores, k) for k in RECALL_AT}
    recall = {k: float(hits.mean() * 100) for k, hits in found.items()}
    return Retrieval(
        recall, median_rank=float(torch.quantile(ranks, 0.5)) + 1, mean_rank=float(ranks.mean()) + 1
    )


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
