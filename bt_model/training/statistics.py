"""Shares with their uncertainty: bootstrap over scenes, whose questions stand or fall together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Share:
    """A share of right answers with its 95 % interval, over `count` answers."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.count})"


def share(right: Mapping[str, Sequence[bool]], seed: int = 0) -> Share:
    """Right answers by scene -> their share, each scene drawn as a whole in every resample."""
    sums = np.array([sum(answers) for answers in right.values()], float)
    counts = np.array([len(answers) for answers in right.values()], float)
    rows = np.random.default_rng(seed).integers(len(sums), size=(RESAMPLES, len(sums)))
    resampled = sums[rows].sum(axis=1) / counts[rows].sum(axis=1)
    low, high = np.percentile(resampled, PERCENTILES)
    return Share(float(sums.sum() / counts.sum()), float(low), float(high), int(counts.sum()))
