"""Shares and their differences with 95 % intervals, and the tests that a claim is held to.

Answers about a scene and its twin are not independent, so the bootstrap resamples scenes; where several seeds
answered about the same scenes, it resamples seeds too. S seeds, n scenes, m answers a scene.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)
Answers = NDArray[np.float64]  # (n, m): 1 right, 0 wrong, 0.5 a tie


@dataclass(frozen=True, slots=True)
class Share:
    """A share of right answers, or a difference of two, with its 95 % interval, over `count` answers."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.count})"


def share(right: Mapping[str, Sequence[bool]], seed: int = 0) -> Share:
    """Right answers by scene -> their share; the bootstrap resamples whole scenes."""
    sums = np.array([sum(answers) for answers in right.values()], float)
    counts = np.array([len(answers) for answers in right.values()], float)
    rows = np.random.default_rng(seed).integers(len(sums), size=(RESAMPLES, len(sums)))
    resampled = sums[rows].sum(axis=1) / counts[rows].sum(axis=1)
    low, high = np.percentile(resampled, PERCENTILES)
    return Share(float(sums.sum() / counts.sum()), float(low), float(high), int(counts.sum()))


def mean_share(seeds: Sequence[Answers]) -> Share:
    """The share of right answers of S seeds about the same scenes, each (n, m); both resampled."""
    scenes = np.stack([answers.mean(axis=1) for answers in seeds])  # (S, n)
    return _interval(scenes, seeds[0].size)


def mean_difference(seeds: Sequence[Answers], others: Sequence[Answers]) -> Share:
    """Difference of two shares, paired by scene, and by seed if both have equally many seeds.

    `seeds` and `others` hold one (n, m) a seed, of the same scenes.
    """
    ours, theirs = (np.stack([x.mean(axis=1) for x in each]) for each in (seeds, others))
    if len(ours) != len(theirs):
        theirs = np.broadcast_to(theirs.mean(axis=0), ours.shape)
    return _interval(ours - theirs, seeds[0].size)


def _interval(scenes: "NDArray[np.float64]", count: int) -> Share:
    """Two-level bootstrap of the mean of (S, n)."""
    rng = np.random.default_rng(0)
    num_seeds, num_scenes = scenes.shape
    means = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        picked = scenes[rng.integers(num_seeds, size=num_seeds)]
        means[number] = picked.mean(axis=0)[rng.integers(num_scenes, size=num_scenes)].mean()
    low, high = np.percentile(means, PERCENTILES)
    return Share(float(scenes.mean()), float(low), float(high), count)


def is_equivalent(difference: Share, margin: float) -> bool:
    """Two one-sided tests at 2.5 % each: the whole interval of a difference lies within +- `margin`."""
    return -margin < difference.low and difference.high < margin


def sign_test(wins: int, losses: int) -> float:
    """One-sided p value of at least `wins` wins under a win probability of one half; without ties."""
    return _binomial_test(wins, losses, "greater")


def mcnemar(ours: "NDArray[np.bool_]", theirs: "NDArray[np.bool_]") -> float:
    """Exact two-sided p value of McNemar's test for pairs of right and wrong answers, both (n,)."""
    return _binomial_test(int((ours & ~theirs).sum()), int((~ours & theirs).sum()), "two-sided")


def _binomial_test(wins: int, losses: int, alternative: Literal["greater", "two-sided"]) -> float:
    """The p value of so many wins where each side would win every second time; 1 where there were none."""
    from scipy.stats import binomtest  # noqa: PLC0415 - an extra

    return float(binomtest(wins, wins + losses, alternative=alternative).pvalue) if wins + losses else 1.0


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction for multiple tests: adjusted p values."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[name]))
        adjusted[name] = largest
    return adjusted
