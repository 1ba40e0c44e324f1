"""The tuned parts of a run as a model folder that serving reads."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from bt_model.assembly.model_file import ModelFile
from bt_model.atomic_files import write_json
from bt_model.backends.parts.lora import Addition, read_lora
from bt_model.checkpoints.export import save_parts
from bt_model.checkpoints.layouts.clip import LLAVA
from bt_model.checkpoints.layouts.detect import detect
from bt_model.checkpoints.load import holds, read_part
from bt_model.checkpoints.temporal import save_temporal
from bt_model.checkpoints.weights import INDEX, Weights, open_weights
from bt_model.errors import CheckpointError
from bt_model.training.chat_base import BaseFile, speller_of
from bt_model.training.instruct.base import load_temporal_model, read_base
from bt_model.training.instruct.config import InstructSettings
from bt_model.training.instruct.lora import matrices, save_lora
from bt_model.training.trainer.checkpoint import Checkpoints, restore

if TYPE_CHECKING:
    from torch import Tensor

NAME = "instruct"
PROJECTOR, ADAPTER, LANGUAGE, LORA = "projector.safetensors", "bt_adapter.safetensors", "llm", "lora"
_EMBEDDING = "model.embed_tokens.weight"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".index.json")
_SHARD_BYTES = 4 << 30

State = Mapping[str, "Tensor"]


def export(work: Path, settings: InstructSettings, out: Path) -> Path:
    """The last checkpoint of a run as a folder with a model file; what did not learn stays where it is.

    Raises:
        CheckpointError: the run has no checkpoint yet, or files that cannot be read.
    """
    checkpoints = Checkpoints(work, NAME)
    steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(f"{work}: the run has no checkpoint yet")
    learnt: dict[str, State] = dict(checkpoints.read(steps[-1])["modules"])
    base = read_base(settings)
    out.mkdir(parents=True, exist_ok=True)
    file = replace(
        _moved(base, out), id=settings.model.name, default_frames=settings.data.frames,
        template=settings.model.served_template or base.file.template,
    )  # fmt: skip
    if {"projector", "tokens"} & set(learnt):
        _write_projector(base, learnt, out / PROJECTOR)
        file = replace(file, projector=PROJECTOR)
    if {"adapter", "vision"} & set(learnt):
        _write_temporal(base, settings, learnt, out / ADAPTER, str(checkpoints.path(steps[-1])))
        file = replace(file, adapter=ADAPTER, gates=None)
    if "lora" in learnt:
        file = _write_lora(base, settings, learnt["lora"], out, file)
    path = out / f"{file.id}.model.json"
    write_json(path, _said(file))
    return path


def _moved(base: BaseFile, out: Path) -> ModelFile:
    """The base's model file as it must be in another folder."""
    names = ("tower", "llm", "projector", "adapter", "qformer", "lora")
    paths = {name: getattr(base.file, name) for name in names}
    moved = {
        name: os.path.relpath(base.at(path).resolve(), out.resolve()) for name, path in paths.items() if path
    }
    return replace(base.file, **moved)


def _said(file: ModelFile) -> dict[str, Any]:
    """What differs from a model file's defaults; id, backend and tower always."""
    return {name: value for name, value in asdict(file).items() if value not in (None, "", (), {}, [])}


def _write_projector(base: BaseFile, learnt: Mapping[str, State], path: Path) -> None:
    """The projector and, where marker rows learnt, the embedding table with them in it."""
    source = base.at(base.file.projector)
    parts = {"projector": learnt.get("projector") or _projector(source)}
    if "tokens" in learnt:
        parts["lm"] = {_EMBEDDING: _table(base, learnt["tokens"]["rows"])}
    elif source != base.at(base.file.llm) and holds(source, "lm"):
        parts["lm"] = read_part(source, "lm", [_EMBEDDING])  # trained with an earlier projector
    save_parts(path, parts, LLAVA)


def _projector(source: Path) -> State:
    weights = open_weights(source)
    keys = detect(weights, weights.where)
    ours = {name for key in weights for name in keys.stored(key) if name.startswith("projector.")}
    return read_part(source, "projector", [name.removeprefix("projector.") for name in sorted(ours)])


def _table(base: BaseFile, rows: "Tensor") -> "Tensor":
    """The language model's embeddings in their own number format, with the learnt rows."""
    projector, llm = base.at(base.file.projector), base.at(base.file.llm)
    source = projector if projector != llm and holds(projector, "lm") else llm
    table = read_part(source, "lm", [_EMBEDDING])[_EMBEDDING].clone()
    ids = speller_of(base).ids
    assert ids.video_start is not None
    assert ids.video_end is not None
    table[[ids.video_start, ids.video_end]] = rows.to(table.dtype)
    return table


def _write_temporal(
    base: BaseFile, settings: InstructSettings, learnt: Mapping[str, State], path: Path, where: str
) -> None:
    encoder = load_temporal_model(base, settings)
    for part, module in encoder.trainable().items():
        restore(module, learnt[part], where)
    save_temporal(path, encoder)


def _write_lora(
    base: BaseFile, settings: InstructSettings, state: State, out: Path, file: ModelFile
) -> ModelFile:
    if settings.learn.lora_saved == "adapter":
        save_lora(out / LORA, state, settings.learn)
        return replace(file, lora=LORA)
    scale = settings.learn.lora_alpha / settings.learn.lora_rank
    additions = [{name: Addition(down, up, scale) for name, (down, up) in matrices(state).items()}]
    if base.file.lora is not None:
        additions.insert(0, read_lora(base.at(base.file.lora)))
    write_merged(base.at(base.file.llm), additions, out / LANGUAGE)
    if file.projector == file.llm:  # the copy holds it, too
        file = replace(file, projector=LANGUAGE)
    return replace(file, llm=LANGUAGE, lora=None)


def write_merged(source: Path, additions: list[dict[str, Addition]], out: Path) -> None:
    """A copy of a language model's folder with additions in its matrices."""
    out.mkdir(parents=True, exist_ok=True)
    for each in sorted(source.iterdir()):
        if each.is_file() and not each.name.endswith(_WEIGHT_SUFFIXES):
            shutil.copyfile(each, out / each.name)
    places: dict[str, str] = {}
    for number, shard in enumerate(_shards(open_weights(source), additions)):
        name = f"model-{number:05d}.safetensors"
        part = out / f".{name}.part"
        save_file(shard, part, metadata={"format": "pt"})
        part.chmod(0o644)
        part.replace(out / name)
        places |= dict.fromkeys(shard, name)
    write_json(out / INDEX, {"metadata": {}, "weight_map": places})


def _shards(weights: Weights, additions: list[dict[str, Addition]]) -> Iterator["dict[str, Tensor]"]:
    """The tensors by published name, a few gigabytes at a time."""
    keys = detect(weights, weights.where)
    shard: dict[str, Tensor] = {}
    for key in weights:
        tensor = weights[key]
        for name in keys.stored(key):
            matrix = name.removeprefix("lm.").removesuffix(".weight")
            for each in additions:
                tensor = each[matrix].to(tensor) if matrix in each else tensor
        shard[key] = tensor.contiguous()
        if sum(each.nbytes for each in shard.values()) > _SHARD_BYTES:
            yield shard
            shard = {}
    if shard:
        yield shard
