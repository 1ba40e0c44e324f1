"""From how well each window of a film fits a text to the moments that are meant: numpy only, without torch.

n windows. A fit is a cosine in the joint space, or a difference of some.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bt_model.errors import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bt_model.search.windows import WindowPlan

MAX_MOMENTS = 100
_SCALE = 100.0  # of cosines in a softmax: that of CLIP's training, which the branch's has too
_KERNEL = np.array([0.25, 0.5, 0.25])  # over neighbours, which share an event but not their noise
_SHARED = 0.25  # of a window: what another moment may overlap
_AS_GOOD = 0.5  # of the best window's share: a neighbour that is part of its event, not of the rest around it


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of a film, in seconds, that fits a text.

    `fit` is its best window's. `score` is how sure it is, 0 to 1: its windows' share in a softmax over all of
    the film's, so that the scores of a film's moments add up to 1 at most. What happens twice shares.
    """

    start: float
    end: float
    score: float
    fit: float


def find_moments(
    fits: "NDArray[np.float32]", plan: "WindowPlan", seconds: float, most: int = 5
) -> list[Moment]:
    """The moments of a film that fit best, best first, from the fits (n,) of its windows.

    Neighbours that fit as well and do not overlap are one longer moment.

    Raises:
        InvalidValueError: not one fit for each window, or a number of moments that is out of range.
    """
    count = plan.num_windows(seconds)
    require(fits.shape == (count,), "fits", fits.shape, f"({count},), one for each window of the film")
    require(1 <= most <= MAX_MOMENTS, "most", most, f"1 to {MAX_MOMENTS}")
    smooth = np.convolve(np.pad(fits.astype(np.float64), 1, mode="edge"), _KERNEL, mode="valid")
    shares = np.exp(_SCALE * (smooth - smooth.max()))
    shares /= shares.sum()
    apart = max(round(plan.length * (1 - _SHARED) / plan.stride), 1)  # windows between two moments
    is_free = np.ones(count, dtype=bool)
    found: list[Moment] = []
    while len(found) < most and is_free.any():
        best = int(np.where(is_free, smooth, -np.inf).argmax())
        first, last = _grown(best, shares, is_free, plan)
        taken = slice(max(first - apart + 1, 0), last + apart)
        score = float(shares[taken][is_free[taken]].sum())
        is_free[taken] = False
        begin, end = plan.span(first, seconds)[0], plan.span(last, seconds)[1]
        found.append(Moment(begin, end, score, float(smooth[best])))
    return found


def _grown(
    best: int, shares: "NDArray[np.float64]", is_free: "NDArray[np.bool_]", plan: "WindowPlan"
) -> tuple[int, int]:
    """The first and the last window of an event; one that fills windows side by side is longer than one."""
    beside = max(plan.length // plan.stride, 1)
    is_part = is_free & (shares >= _AS_GOOD * shares[best])
    ends = [best, best]
    for side, step in enumerate((-1, 1)):
        if 0 <= best + step * beside < len(shares) and is_part[best + step * beside]:
            while 0 <= ends[side] + step < len(shares) and is_part[ends[side] + step]:
                ends[side] += step
    return ends[0], ends[1]
