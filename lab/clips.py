"""Clips of drawn scenes beside the hidden states that a frozen trunk gives for them.

A clip's twin holds the same frames in another order, so its states are the clip's, reordered: every batch has
each drawn clip and its twin, the hardest negative there is. B clips, S states, T frames, P patches, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.training.trainer.progress import StepProgress
from bt_model.video.sample import uniform
from lab.shapes.clip_file import write_corpus
from lab.shapes.events import NUM_FRAMES
from lab.shapes.scene import Scene
from lab.trunk_cache import TrunkCache, build_cache

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.encoder import TemporalEncoder


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """Scenes with their clips: trunk states (B, S, T, 1 + P, D) float16, or frames (B, T, H, W, 3) uint8."""

    scenes: Sequence[Scene]
    clips: "Tensor"


@dataclass(frozen=True, slots=True)
class CachedClips:
    """Scenes and their clips' trunk states, row by row."""

    scenes: Sequence[Scene]
    cache: TrunkCache

    def in_memory(self) -> "CachedClips":
        """The same clips with all states read now."""
        return CachedClips(self.scenes, self.cache.in_memory())

    def batch(self, rows: Sequence[int], reads: range) -> SceneBatch:
        """The clips of some scenes with their hidden states `reads`."""
        return SceneBatch([self.scenes[row] for row in rows], self.cache.batch(rows, reads))

    def twins(self, clips: SceneBatch) -> SceneBatch:
        """The twins of some clips."""
        frames = uniform(NUM_FRAMES, clips.clips.shape[2])
        order = torch.tensor([scene.twin_frames(frames) for scene in clips.scenes])  # (B, T)
        states = clips.clips[torch.arange(len(order))[:, None], :, order].transpose(1, 2)
        return SceneBatch([scene.twin() for scene in clips.scenes], states)

    def batches(self, size: int, reads: range) -> Iterator[tuple[SceneBatch, SceneBatch]]:
        """All clips in their order, so many at a time, each batch with that of their twins."""
        for begin in range(0, len(self.scenes), size):
            clips = self.batch(range(begin, min(begin + size, len(self.scenes))), reads)
            yield clips, self.twins(clips)

    def draw(self, batch: int, rng: Random, reads: range) -> SceneBatch:
        """Half a batch of clips, then their twins."""
        clips = self.batch(rng.sample(range(len(self.scenes)), batch // 2), reads)
        twins = self.twins(clips)
        return SceneBatch([*clips.scenes, *twins.scenes], torch.cat([clips.clips, twins.clips]))


def load_clips(
    work: Path, name: str, listed: Sequence[Scene], encoders: "Sequence[TemporalEncoder]", num_frames: int
) -> CachedClips:
    """Write the scenes' mp4 clips and run the frozen trunk over them once; both are resumable.

    The encoders share one tower; what any of them reads is stored, in a file named after the tower.
    """
    (tower,) = {encoder.tower for encoder in encoders}
    made_by = fingerprint(tower.state_dict())[:12]
    with StepProgress(f"clips {name}", len(listed)) as progress:
        paths = write_corpus(work / name, listed, progress=progress.update)
    path = work / f"{name}-{made_by}.trunk"
    with StepProgress(f"trunk {name}", len(listed)) as progress:
        cache = build_cache(path, paths, encoders, num_frames, progress.update)
    return CachedClips(listed, cache)
