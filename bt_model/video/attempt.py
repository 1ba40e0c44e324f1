"""One try to decode frames: how long it may take, and what earlier ones have found."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class OutOfTimeError(Exception):
    """Some frames are missing: `found` holds, for each size, those that there are by source index."""

    def __init__(self, found: "Sequence[Mapping[int, NDArray[np.uint8]]]", num_frames: int) -> None:
        super().__init__()
        self.found = found
        self.num_frames = num_frames


class Attempt:
    """Without an end, unless `allowed` tells the seconds for pictures of so many pixels in all.

    `done` holds, for each size, frames by their source index that need no decoding.
    """

    def __init__(
        self,
        allowed: Callable[[int], float] = lambda _: math.inf,
        done: "Sequence[Mapping[int, NDArray[np.uint8]]]" = (),
    ) -> None:
        self._allowed = allowed
        self._end = math.inf
        self.done = done

    def begin(self, num_pixels: int) -> None:
        """Decoding begins, of pictures that have so many pixels together."""
        self._end = time.monotonic() + self._allowed(num_pixels)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._end
