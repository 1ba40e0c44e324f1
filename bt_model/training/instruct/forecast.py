"""The output of `--dry-run`: the plan of a run, with published sizes assumed for missing files."""

from pathlib import Path
from typing import Any

from bt_model.assembly.catalog import find
from bt_model.backends.parts.llm import read_llama_config
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import UnknownNameError
from bt_model.training.data.clip_list import matching
from bt_model.training.data.dialogues import read_dialogues
from bt_model.training.instruct.base import load_temporal_model, read_base
from bt_model.training.instruct.config import InstructSettings
from bt_model.training.instruct.corpus import read_corpus
from bt_model.training.instruct.plan import DIALOGUES, PUBLISHED, TYPICAL, InstructPlan, Sizes
from bt_model.training.settings import plain


def forecast(settings: InstructSettings, num_devices: int = 1) -> dict[str, Any]:
    """Settings, assumptions about missing files, and the plan.

    Raises:
        InvalidValueError: annotations that cannot be read, or settings that do not fit.
        CheckpointError: a base model whose parts cannot be read.
    """
    assumed: list[str] = []
    has_dialogues = any(matching(pattern) for pattern in settings.data.annotations)
    if not has_dialogues:
        assumed.append("data.annotations are not there: VideoChatGPT-100K is assumed")
    if _has_base(settings):
        plan = _plan_beside_base(settings, num_devices, has_dialogues=has_dialogues)
    else:
        assumed.append(f"{settings.model.base} is not there: LLaVA 7B with the published branch is assumed")
        num = len(read_dialogues(settings.data).dialogues) if has_dialogues else DIALOGUES
        plan = InstructPlan(settings, PUBLISHED, TYPICAL, {"used": num}, num_devices)
    return {"settings": plain(settings), "assumed": assumed, **plan.describe()}


def _has_base(settings: InstructSettings) -> bool:
    try:
        find(settings.model.base, Path(settings.model.weights))
    except UnknownNameError:
        return False
    return True


def _plan_beside_base(settings: InstructSettings, num_devices: int, *, has_dialogues: bool) -> InstructPlan:
    base = read_base(settings)
    encoder = load_temporal_model(base, settings)
    llama = read_llama_config(base.at(base.file.llm))
    projector = open_checkpoint(base.at(base.file.projector)).shapes("projector")
    is_deep = any(name.startswith("0.") for name in projector)
    vision = encoder.tower.config
    sizes = Sizes(vision, encoder.config, llama, base.file.pooling, encoder.skip, is_deep)
    if not has_dialogues:
        return InstructPlan(settings, sizes, TYPICAL, {"used": DIALOGUES}, num_devices)
    corpus = read_corpus(settings, base, encoder, llama.max_context)
    return InstructPlan(settings, sizes, corpus.lengths, corpus.counts, num_devices)
