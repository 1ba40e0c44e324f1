"""A tiny chat model and a small procedural corpus on disk, in the form of VideoChatGPT-100K."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bt_model.training.instruct.settings import InstructSettings
from bt_model.training.settings import settings_from
from lab.shapes.exports.corpus import CorpusPlan, make_corpus
from tests import tiny

NUM_CLIPS = 6


@dataclass(frozen=True)
class Videos:
    """Where they lie."""

    folder: Path

    @property
    def export(self) -> Path:
        return self.folder / "clips" / "train" / "videochatgpt"

    @property
    def pairs(self) -> Path:
        return self.export / "VideoChatGPT_100K.json"

    @property
    def conversations(self) -> Path:
        return self.export / "video_chatgpt_training.json"

    @property
    def files(self) -> list[Path]:
        return sorted((self.export / "videos").glob("*.mp4"))

    def base(self, name: str = tiny.MODEL) -> Path:
        return self.folder / "tiny" / f"{name}.model.json"

    def settings(self, *layers: Mapping[str, Any]) -> InstructSettings:
        """A small run on the CPU; layers stand above it."""
        base = {
            "model": {"base": str(self.base())},
            "data": {
                "annotations": [str(self.pairs)],
                "root": str(self.export / "videos"),
                "frames": 4,
                "workers": 1,
                "max_broken": 1.0,
            },
            "optimiser": {"batch": 4, "rate": 1e-3, "eps": 1e-6, "epochs": 3},
            "run": {"device": "cpu", "steps": 3, "save_every": 2},
        }
        return settings_from(InstructSettings, base, *layers)


def write_videos(folder: Path) -> Videos:
    """Clips of several kinds of events, in the lists that `btchat corpus make` writes."""
    tiny.write_model_folder(folder)
    make_corpus(folder / "clips", CorpusPlan(num_clips=NUM_CLIPS, num_test_clips=2, side=24))
    return Videos(folder)
