"""A tiny CLIP and a small procedural corpus on disk, in the form of WebVid."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.settings import settings_from
from lab.shapes.exports.corpus import CorpusPlan, make_corpus
from tests import tiny

NUM_CLIPS = 12


@dataclass(frozen=True)
class Corpus:
    """Where it lies."""

    folder: Path

    @property
    def table(self) -> Path:
        return self.webvid / "results_2M_train.csv"

    @property
    def webvid(self) -> Path:
        return self.folder / "clips" / "train" / "webvid"

    @property
    def clip(self) -> Path:
        return self.folder / "tiny" / "clip"

    def settings(self, *layers: Mapping[str, Any]) -> PretrainSettings:
        """A small run on the CPU; layers stand above it."""
        base = {
            "model": {"clip": str(self.clip), "layers": tiny.K, "max_frames": tiny.MAX_FRAMES},
            "data": {
                "annotations": [str(self.table)],
                "root": str(self.webvid / "videos"),
                "frames": 4,
                "tokens": 12,
                "short_side": 16,
                "workers": 2,
            },
            "mask": {"rate": 0.5},
            "optimiser": {"batch": 4, "rate": 1e-3, "epochs": 10},
            "run": {"device": "cpu", "save_every": 5},
        }
        return settings_from(PretrainSettings, base, *layers)


def write_corpus(folder: Path) -> Corpus:
    """Clips of all kinds of events, each with its twin, in the lists that `btchat corpus make` writes."""
    tiny.write_model_folder(folder)
    make_corpus(folder / "clips", CorpusPlan(num_clips=NUM_CLIPS, num_test_clips=2, side=24))
    return Corpus(folder)
