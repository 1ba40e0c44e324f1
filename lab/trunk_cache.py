"""Hidden states of a frozen trunk over a list of clips, computed once and read by row.

B clips, T frames, P patches, D width, S states.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bt_model.errors import InvalidValueError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode
from bt_model.video.transform import normalise
from bt_model.vision.clip import hidden_states

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.encoder import TemporalEncoder

CACHE_BATCH = 32


@dataclass(frozen=True, slots=True)
class TrunkCache:
    """Hidden states of a frozen trunk in one file: (clips, S, T, 1 + P, D) float16, read by row.

    `numbers` are the indices of the states along the second axis.
    """

    states: "np.ndarray[tuple[int, ...], np.dtype[np.float16]]"
    numbers: tuple[int, ...]

    def in_memory(self) -> "TrunkCache":
        """The same states, read into memory, since random rows of a file are slow."""
        return TrunkCache(np.array(self.states), self.numbers)

    def batch(self, rows: Sequence[int], reads: Collection[int] | None = None) -> "Tensor":
        """Some states, or all, rising: (B, S, T, 1 + P, D) float16.

        Raises:
            InvalidValueError: a state that is not cached.
        """
        wanted = self.numbers if reads is None else sorted(reads)
        if not set(wanted) <= set(self.numbers):
            raise InvalidValueError(f"reads is {wanted}; allowed: {self.numbers}, as cached", param="reads")
        axes = [self.numbers.index(number) for number in wanted]
        order = torch.tensor(rows).argsort().argsort()
        return torch.from_numpy(self.states[np.ix_(sorted(rows), axes)])[order]


def states_by_number(states: "Tensor") -> "list[Tensor]":
    """Cached states as a temporal model reads them: (B, S, T, 1 + P, D) -> each (B, T, 1 + P, D) float32."""
    return list(states.float().unbind(1))


def build_cache(
    path: Path,
    clips: Sequence[Path],
    encoders: "Sequence[TemporalEncoder]",
    num_frames: int,
    tick: Callable[[int], None],
) -> TrunkCache:
    """Decode every clip and run the frozen trunk once; resumes after the last complete batch.

    The encoders share one tower; what any of them reads, for retrieval or chat, is stored. `tick` is told how
    many clips are done.

    Raises:
        InvalidValueError: the file holds states of other clips or of another tower.
    """
    (tower,) = {encoder.tower for encoder in encoders}
    retrieval = {number for encoder in encoders for number in encoder.reads}
    chat = {number for encoder in encoders if encoder.has_chat for number in encoder.chat_reads}
    numbers = tuple(sorted(retrieval | chat))
    vision = tower.config
    shape = (len(clips), len(numbers), num_frames, 1 + vision.num_patches, vision.width)
    expected = math.prod(shape) * np.dtype(np.float16).itemsize
    if path.exists() and path.stat().st_size != expected:
        found = path.stat().st_size
        raise InvalidValueError(f"{path} has {found} bytes; allowed: {expected}, of {shape} in float16")
    mode = "r+" if path.exists() else "w+"
    states = np.memmap(path, np.float16, mode, shape=shape)
    mark = path.with_suffix(".done")
    done = int(mark.read_text()) if mark.exists() else 0
    size = FrameSize(vision.image_size)
    for begin in range(done, len(clips), CACHE_BATCH):
        batch = clips[begin : begin + CACHE_BATCH]
        frames = [decode(clip, Sampling(num_frames=num_frames), size, num_frames).pixels for clip in batch]
        with torch.inference_mode():
            pixels = torch.stack([normalise(torch.from_numpy(f)) for f in frames])
            found = torch.stack(list(hidden_states(tower, pixels, numbers).values()), dim=1)
        states[begin : begin + len(batch)] = found.half().numpy()
        states.flush()
        mark.write_text(str(begin + len(batch)))
        tick(begin + len(batch))
    return TrunkCache(states, numbers)
