"""One try to decode frames: how long it may take, what earlier ones have found, and how far it is."""

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

    `done` holds, for each size, frames by their source index that need no decoding. `tell` hears of how many
    frames there are, and of how many that are wanted.
    """

    def __init__(
        self,
        allowed: Callable[[int], float] = lambda _: math.inf,
        done: "Sequence[Mapping[int, NDArray[np.uint8]]]" = (),
        tell: Callable[[int, int], object] = lambda _num_frames, _num_wanted: None,
    ) -> None:
        self._allowed = allowed
        self._end = math.inf
        self.done = done
        self._tell = tell
        self._num_wanted = 0

    def begin(self, num_pixels: int, num_wanted: int) -> None:
        """Decoding begins, of pictures that have so many pixels together, for so many frames."""
        self._num_wanted = num_wanted
        self._end = time.monotonic() + self._allowed(num_pixels)

    def found(self, num_frames: int) -> None:
        """A reader has so many frames now."""
        num_done = len(self.done[0]) if self.done else 0
        self._tell(num_done + num_frames, self._num_wanted)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._end
