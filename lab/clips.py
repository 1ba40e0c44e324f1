"""Clips of the corpus as training reads them: scenes beside the hidden states of a frozen trunk.

A clip's twin holds the same frames in another order, so its states are the clip's, reordered: every batch has
each drawn clip and its twin, the hardest negative there is. B clips, T frames, P patches, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch
from rich.progress import Progress

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.video.sample import uniform
from lab.shapes.clip_file import write_corpus
from lab.shapes.events import NUM_FRAMES
from lab.shapes.scene import Scene
from lab.trunk_cache import TrunkCache, build_cache

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.encoder import TemporalEncoder


@dataclass(frozen=True, slots=True)
class Corpus:
    """Scenes and their clips' cached trunk states, row by row."""

    scenes: Sequence[Scene]
    cache: TrunkCache

    def in_memory(self) -> "Corpus":
        """The same clips with all states read now."""
        return Corpus(self.scenes, self.cache.in_memory())

    def both(self, rows: Sequence[int], reads: range) -> "tuple[list[Tensor], list[Tensor]]":
        """Hidden states `reads` of clips and of their twins, each (B, T, 1 + P, D)."""
        states = self.cache.batch(rows, reads)
        frames = uniform(NUM_FRAMES, states[0].shape[1])
        order = torch.tensor([self.scenes[row].twin_frames(frames) for row in rows])  # (B, T)
        places = torch.arange(len(rows))[:, None]
        return states, [x[places, order] for x in states]

    def draw(self, batch: int, rng: Random, reads: range) -> "tuple[list[Scene], list[Tensor]]":
        """Half a batch of clips, then their twins: scenes (B), and hidden states, each (B, T, 1 + P, D)."""
        rows = rng.sample(range(len(self.scenes)), batch // 2)
        states, twins = self.both(rows, reads)
        drawn = [self.scenes[row] for row in rows]
        pairs = zip(states, twins, strict=True)
        return [*drawn, *(scene.twin() for scene in drawn)], [torch.cat(pair) for pair in pairs]


def load_corpus(
    work: Path, name: str, listed: Sequence[Scene], encoders: "Sequence[TemporalEncoder]", num_frames: int
) -> Corpus:
    """Write the scenes' mp4 clips and run the frozen trunk over them once; both are resumable.

    The encoders share one tower; what any of them reads is kept, in a file named after the tower.
    """
    (tower,) = {encoder.tower for encoder in encoders}
    made_by = fingerprint(tower.state_dict())[:12]
    with Progress() as progress:
        writing = progress.add_task(f"clips {name}", total=len(listed))
        paths = write_corpus(
            work / name,
            listed,
            progress=lambda count: progress.update(writing, completed=count),
        )
        running = progress.add_task(f"trunk {name}", total=len(listed))
        cache = build_cache(
            work / f"{name}-{made_by}.trunk",
            paths,
            encoders,
            num_frames,
            lambda count: progress.update(running, completed=count),
        )
    return Corpus(listed, cache)
