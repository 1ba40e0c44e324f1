"""A tiny CLIP and a few clips with captions on disk, in the form of WebVid."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bt_model.training.pretrain.config import PretrainSettings
from bt_model.training.settings import fill, overlaid
from tests import tiny
from tests.clips import ClipSpec, write_clip

NUM_CLIPS = 12
WORDS = ("red", "circle", "moves", "left", "grows", "black", "blinks", "first")


@dataclass(frozen=True)
class Corpus:
    """Where it lies."""

    folder: Path

    @property
    def table(self) -> Path:
        return self.folder / "results_2M_train.csv"

    @property
    def clip(self) -> Path:
        return self.folder / "tiny" / "clip"

    def settings(self, *layers: Mapping[str, Any]) -> PretrainSettings:
        """A small run on the CPU; layers stand above it."""
        base = {
            "model": {"clip": str(self.clip), "layers": tiny.K, "max_frames": tiny.MAX_FRAMES},
            "data": {
                "annotations": [str(self.table)],
                "root": str(self.folder),
                "frames": 4,
                "tokens": 12,
                "short_side": 16,
                "workers": 2,
            },
            "mask": {"rate": 0.5},
            "optimiser": {"batch": 4, "rate": 1e-3, "epochs": 10},
            "run": {"device": "cpu", "save_every": 5},
        }
        return fill(PretrainSettings, overlaid([base, *layers]))


def caption(number: int) -> str:
    return " ".join(WORDS[(number * step) % len(WORDS)] for step in (1, 3, 5))


def write_corpus(folder: Path) -> Corpus:
    """Clips that differ in shape, and the table about them."""
    tiny.write_model_folder(folder)
    corpus = Corpus(folder)
    with corpus.table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["videoid", "name", "page_idx", "page_dir", "duration", "contentUrl"])
        for number in range(NUM_CLIPS):
            page = folder / f"page_{number % 2}"
            page.mkdir(exist_ok=True)
            write_clip(page / f"{number}.mp4", ClipSpec(num_frames=6 + number, width=64 + 16 * (number % 3)))
            writer.writerow([number, caption(number), 0, page.name, "PT1S", ""])
    return corpus
