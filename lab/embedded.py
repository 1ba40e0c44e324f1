"""`btchat train embedded`: trains the small model of every installation from scratch, resumable."""

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from bt_model.training.settings import Precision
from bt_model.training.trainer.loop import Trained
from bt_model.training.trainer.optimiser import native_precision
from lab.chat_model import freeze
from lab.clips import CachedClips, load_clips
from lab.export import export
from lab.model import EmbeddedModel, build
from lab.pictures import varied_scenes
from lab.report import write_report
from lab.stages import (
    train_baseline,
    train_branch,
    train_captioner,
    train_instruct,
    train_language,
    train_towers,
)


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """The embedded model after all stages, the held-out clips that it is tested on, and each stage's cost."""

    model: EmbeddedModel
    test: CachedClips
    costs: dict[str, Trained]


def train_all(work: Path, *, seed: int = 0, precision: Precision = "float32") -> TrainedModel:
    """All stages in order; finished ones are read from their checkpoints.

    `pretrained` is the branch after video-text pre-training, `tuned` after instruction tuning. The `image`
    chat model never saw video: with the pre-trained branch it is the paper's zero-shot plug-in.
    """
    model = build(work, seed, precision)
    costs: dict[str, Trained] = {}
    costs["towers"] = train_towers(model, work)
    freeze(model.tower)
    freeze(model.text)
    model.pretrained.init_from_trunk(model.tower)
    with metered(work / "clips.cost") as costs["clips"]:
        train = _clips(model, work, "train", model.plan.num_clips)
        test = _clips(model, work, "test_combo", model.plan.num_test_clips)
    costs["language"] = train_language(model, work)
    model.image.freeze()
    captioner, costs["captioner"] = train_captioner(model, work)
    costs["branch"] = train_branch(model, captioner, train, work)
    freeze(model.pretrained)
    model.tuned.load_state_dict(model.pretrained.state_dict())
    for chat in (model.video, model.baseline):
        chat.lm.load_state_dict(model.image.lm.state_dict())
        chat.projector.load_state_dict(model.image.projector.state_dict())
    costs["instruct"] = train_instruct(model, train, work)
    costs["baseline"] = train_baseline(model, train, work)
    return TrainedModel(model, test, costs)


def _clips(model: EmbeddedModel, work: Path, split: str, count: int) -> CachedClips:
    """Clips with the trunk states that the branch and CLIP alone read."""
    encoders = [model.encoder(model.pretrained), model.encoder(None)]
    scenes = varied_scenes(split, count, Random(f"clips {split} {model.plan.seed}"))
    return load_clips(work, split, scenes, encoders, model.plan.num_frames).in_memory()


def train_embedded(
    out: Path, work: Path, *, seed: int = 0, threads: int = 1, precision: Precision | None = None
) -> None:
    """Train, export to `out`, and write its REPORT.md; without a precision, in the fastest that fits here."""
    torch.set_num_threads(threads)
    trained = train_all(work, seed=seed, precision=precision or native_precision())
    export(trained.model, out, work)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    write_report(out / "REPORT.md", trained.model, trained.test, trained.costs, size)


@contextmanager
def metered(path: Path) -> Generator[Trained]:
    """Add the cost of a block to that of earlier sessions, stored in `path`; for work without steps."""
    trained = Trained(*json.loads(path.read_text())) if path.exists() else Trained()
    cpu, wall = time.process_time(), time.monotonic()
    try:
        yield trained
    finally:
        trained.cpu_seconds += time.process_time() - cpu
        trained.wall_seconds += time.monotonic() - wall
        path.write_text(json.dumps([trained.cpu_seconds, trained.wall_seconds]))
