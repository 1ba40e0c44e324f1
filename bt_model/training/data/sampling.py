"""Which clip each sample of a run is, and its random numbers, from the run's seed and sample index alone.

The sample index (`place`) counts through all epochs and ranks, so the same run on another number of ranks,
or resumed, draws the same numbers.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from bt_model.errors import InvalidValueError

_ORDER, _CLIP, MASKS, _STEP = range(4)  # independent streams of one seed


@dataclass(frozen=True, slots=True)
class Order:
    """The sample indices of each step and rank; an epoch's incomplete last batch is dropped.

    Raises:
        InvalidValueError: fewer clips than one batch takes.
    """

    num_clips: int
    batch: int
    accumulate: int
    seed: int
    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        whole = self.accumulate * self.size
        if self.batch % whole or self.num_clips < self.batch:
            allowed = (
                f"a multiple of {whole} (accumulate x processes), up to the {self.num_clips} clips there are"
            )
            raise InvalidValueError(
                f"optimiser.batch is {self.batch}; allowed: {allowed}", param="optimiser.batch"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.num_clips // self.batch

    @property
    def clips_per_part(self) -> int:
        """This rank's clips in one part of a step."""
        return self.batch // self.accumulate // self.size

    def places(self, step: int, part: int) -> range:
        """Sample indices of this rank in a part of a step; a part has consecutive indices over all ranks."""
        epoch, within = divmod(step, self.steps_per_epoch)
        per_part = self.batch // self.accumulate
        first = (
            epoch * self.num_clips + within * self.batch + part * per_part + self.rank * self.clips_per_part
        )
        return range(first, first + self.clips_per_part)

    def step(self, place: int) -> int:
        """The step of a sample index."""
        epoch, within = divmod(place, self.num_clips)
        return epoch * self.steps_per_epoch + within // self.batch

    def clip(self, place: int, attempt: int = 0) -> int:
        """The clip of a sample index; `attempt` counts broken clips and selects another one."""
        epoch, within = divmod(place, self.num_clips)
        if attempt:
            return int(default_rng([self.seed, _CLIP, place, attempt]).integers(self.num_clips))
        return int(_permutation(self.num_clips, self.seed, epoch)[within])


@lru_cache(maxsize=2)
def _permutation(num_clips: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return default_rng([seed, _ORDER, epoch]).permutation(num_clips)


def clip_draws(seed: int, place: int) -> Generator:
    """Random generator for a sample's frames, box and caption."""
    return default_rng([seed, _CLIP, place])


def step_seed(seed: int, step: int, part: int, rank: int) -> int:
    """Seed of the random numbers of a forward pass (stochastic depth)."""
    return int(default_rng([seed, _STEP, step, part, rank]).integers(2**63 - 1))
