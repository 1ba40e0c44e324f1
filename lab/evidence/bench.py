"""What all rows of the grid share: frozen towers, an image chat model, and clips with their trunk states."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bt_model.atomic_files import write_json
from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.errors import CheckpointError
from bt_model.vision.build import build_encoder
from lab.chat_model import ChatModel, freeze
from lab.clips import CachedClips, load_clips
from lab.evidence.rows import ROWS
from lab.model import EmbeddedModel, build
from lab.shapes.events import REVERSIBLE, Still
from lab.shapes.splits import scenes
from lab.shipped import copy_tokenizers, read_frozen
from lab.stages import train_captioner, train_language, train_towers

if TYPE_CHECKING:
    from bt_model.training.settings import Precision

KINDS = (*REVERSIBLE, Still.kind)  # a model that is blind to order is at chance for all but the last


@dataclass(frozen=True, slots=True)
class StudySize:
    """How large the grid's sets of clips and its runs are. Test clips stand for a scene and its twin each."""

    num_clips: int = 3500
    num_test: int = 100  # scenes a kind, for every row
    num_headline: int = 1000  # scenes a kind, for CLIP, BT-Adapter, and the recipe that was found
    num_frames: int = 8
    pretrain_steps: int = 480
    pretrain_batch: int = 48
    instruct_steps: int = 300
    instruct_batch: int = 16


@dataclass(frozen=True, slots=True)
class Bench:
    """Frozen parts and clips; `headline` has more scenes, and the states of two models only.

    The frozen captioner is the image chat model after it learnt to caption pictures.
    """

    model: EmbeddedModel
    captioner: ChatModel
    size: StudySize
    train: CachedClips
    test: CachedClips
    headline: CachedClips
    precision: "Precision"


def set_up(
    work: Path, size: StudySize, *, precision: "Precision", frozen: Path | None = None, seed: int = 0
) -> Bench:
    """Bring the towers and the image chat model, and write the clips; resumable.

    `frozen`: the folder of an exported embedded model, whose parts these are. Without it they are those of
    `btchat train embedded` in the folder `work`, trained where they are not there yet.
    """
    model = _frozen_parts(work, precision, frozen, seed)
    folder = work / "ablate"
    _keep_parts(folder, model)
    captioner, _ = train_captioner(model, folder)
    every = [build_encoder(row.model, model.tower) for row in ROWS]
    two = [build_encoder(row.model, model.tower) for row in ROWS[:2]]
    orders = len(REVERSIBLE)
    listed = scenes("train", size.num_clips, seed=seed + 10, kinds=KINDS)
    tested = scenes("test_combo", size.num_headline * orders, seed=seed + 11, kinds=REVERSIBLE)
    return Bench(
        model,
        captioner,
        size,
        load_clips(folder, "train", listed, every, size.num_frames),
        load_clips(folder, "test", tested[: size.num_test * orders], every, size.num_frames),
        load_clips(folder, "headline", tested, two, size.num_frames),
        precision,
    )


def _keep_parts(folder: Path, model: EmbeddedModel) -> None:
    """What lies in a folder was trained over one set of frozen parts; say so there, or refuse others.

    Raises:
        CheckpointError: rows over other parts are there.
    """
    parts = {
        "tower": model.tower,
        "text tower": model.text.tower,
        "chat model": model.image.lm,
        "projector": model.image.projector,
    }
    now = {name: fingerprint(part.state_dict()) for name, part in parts.items()}
    path = folder / "parts.json"
    if not path.exists():
        write_json(path, now)
    elif (before := json.loads(path.read_text(encoding="utf-8"))) != now:
        other = ", ".join(name for name in now if before.get(name) != now[name])
        raise CheckpointError(f"{folder}: its rows are over another {other}; another needs its own folder")


def _frozen_parts(work: Path, precision: "Precision", frozen: Path | None, seed: int) -> EmbeddedModel:
    if frozen is not None:
        copy_tokenizers(frozen, work)
    model = build(work, seed, precision)
    if frozen is not None:
        read_frozen(model, frozen)
    else:
        train_towers(model, work)
        freeze(model.tower)
        freeze(model.text)
        train_language(model, work)
    for part in (model.tower, model.text, model.image.lm, model.image.projector):
        freeze(part)
    return model
