"""What a pre-training run leaves besides logs and checkpoints: settings, and the branch as published."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.errors import InvalidValueError
from bt_model.training.export import require_suffix, write_published
from bt_model.training.pretrain.config import PretrainSettings
from bt_model.training.pretrain.step import PretrainStep
from bt_model.training.pretrain.towers import fresh_step, towers_of
from bt_model.training.settings import SETTINGS, settings_from
from bt_model.training.trainer.checkpoint import last_learnt

NAME = "pretrain"


def read_settings(work: Path) -> PretrainSettings:
    """The settings of the run in a folder.

    Raises:
        InvalidValueError: no run there.
    """
    path = work / SETTINGS
    if not path.is_file():
        raise InvalidValueError(f"work is {work}; allowed: the folder of a pre-training run", param="work")
    return settings_from(PretrainSettings, json.loads(path.read_text(encoding="utf-8")))


def export(work: Path, out: Path, *, with_clip: bool = False) -> None:
    """The last checkpoint of a run as a file with published names, with CLIP's towers or without.

    Raises:
        InvalidValueError: an ending that is not written, or no run in `work`.
        CheckpointError: the run has no checkpoint yet, or files that cannot be read.
    """
    require_suffix(out)
    settings = read_settings(work)
    learnt = last_learnt(work, NAME)
    step = fresh_step(settings, towers_of(settings.model))
    learnt.fill(step.learning())
    write_published(out, step, {**_facts(settings, step), "steps": learnt.steps}, with_clip=with_clip)


def _facts(settings: PretrainSettings, step: PretrainStep) -> dict[str, Any]:
    """Metadata for what the tensors do not record."""
    weights = settings.loss.weights
    return {
        "clip": Path(settings.model.clip).name,
        "clip_fingerprint": fingerprint(step.encoder.tower.state_dict()),
        "mask": settings.mask.layout,
        "mask_rate": settings.mask.rate,
        "unmasked": settings.mask.unmasked,
        "layer_rule": "last K outputs",
        "losses": asdict(weights),
        **({"captioner": Path(settings.model.captioner).name} if settings.model.captioner else {}),
    }
