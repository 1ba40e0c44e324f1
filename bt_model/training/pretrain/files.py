"""The files of a run besides logs and checkpoints: settings, and the trained model as published."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.checkpoints.temporal import save_temporal
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.training.pretrain.config import PretrainSettings
from bt_model.training.pretrain.step import PretrainStep
from bt_model.training.pretrain.towers import fresh_step, towers_of
from bt_model.training.settings import SETTINGS, fill
from bt_model.training.trainer.checkpoint import Checkpoints, restore, save_atomically

if TYPE_CHECKING:
    from torch import Tensor

NAME = "pretrain"
SUFFIXES = (".safetensors", ".pth")


def read_settings(work: Path) -> PretrainSettings:
    """The settings of the run in a folder.

    Raises:
        InvalidValueError: no run there.
    """
    path = work / SETTINGS
    if not path.is_file():
        raise InvalidValueError(f"work is {work}; allowed: the folder of a pre-training run", param="work")
    return fill(PretrainSettings, json.loads(path.read_text(encoding="utf-8")))


def export(work: Path, out: Path, *, with_clip: bool = False) -> None:
    """The last checkpoint of a run as a file of published names, with CLIP's towers or without.

    safetensors, or where the name ends in .pth the pickled layout of the published file.

    Raises:
        InvalidValueError: another ending, or no run in `work`.
        CheckpointError: the run has no checkpoint yet, or files that cannot be read.
    """
    if out.suffix not in SUFFIXES:
        raise InvalidValueError(
            f"out is {out}; allowed: a name that ends in {' or '.join(SUFFIXES)}", param="out"
        )
    settings = read_settings(work)
    out.parent.mkdir(parents=True, exist_ok=True)
    steps = Checkpoints(work, NAME).steps()
    if not steps:
        raise CheckpointError(f"{work}: the run has no checkpoint yet")
    step = _trained(work, settings, steps[-1])
    facts = {**_facts(settings, step), "steps": steps[-1]}
    if out.suffix == ".safetensors":
        _save(step, out, facts, with_clip=with_clip)
        return
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        file = Path(folder) / "model.safetensors"
        _save(step, file, facts, with_clip=with_clip)
        payload = {"meta": json.dumps(facts), "state_dict": load_file(file), "message_hub": {}}
        save_atomically(out, payload)


def _trained(work: Path, settings: PretrainSettings, steps: int) -> PretrainStep:
    """The whole step with what was learnt up to a checkpoint, on the CPU."""
    step = fresh_step(settings, towers_of(settings.model))
    checkpoints = Checkpoints(work, NAME)
    learnt = checkpoints.read(steps)["modules"]
    for part, module in step.learning().items():
        restore(module, learnt[part], str(checkpoints.path(steps)))
    return step


def _save(step: PretrainStep, out: Path, facts: dict[str, Any], *, with_clip: bool) -> None:
    save_temporal(out, step.encoder, parts=parts_beside(step, with_clip=with_clip), facts=facts)


def parts_beside(step: PretrainStep, *, with_clip: bool) -> "dict[str, dict[str, Tensor]]":
    """What a file holds besides the temporal model, by part of a checkpoint (checkpoints/keys.py)."""
    parts = {} if step.head is None else {"extra_proj": step.head.state_dict()}
    if with_clip:
        parts |= {"vision": step.encoder.trunk.state_dict(), "text": step.text.state_dict()}
    return parts


def _facts(settings: PretrainSettings, step: PretrainStep) -> dict[str, Any]:
    """What the tensors do not say by themselves (training spec 1.5)."""
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
