"""What a run leaves: a branch under published names, or a model folder that serving reads."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from bt_model.assembly.model_file import ModelFile
from bt_model.atomic_files import write_json
from bt_model.backends.parts.lora import CONFIG, WEIGHTS, Addition, published_names, read_lora
from bt_model.checkpoints.export import save_parts
from bt_model.checkpoints.layouts.llava import LLAVA
from bt_model.checkpoints.temporal import save_temporal
from bt_model.checkpoints.weights import INDEX, Checkpoint, open_checkpoint
from bt_model.errors import InvalidValueError
from bt_model.training.chat_base import ChatModelFile, speller_of
from bt_model.training.trainer.checkpoint import save_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.training.instruct.settings import InstructSettings, LearnSettings
    from bt_model.training.pretrain.step import PretrainStep
    from bt_model.vision.encoder import TemporalEncoder

PROJECTOR, ADAPTER, LANGUAGE, LORA = "projector.safetensors", "bt_adapter.safetensors", "llm", "lora"
_SUFFIXES = (".safetensors", ".pth")
_EMBEDDING = "model.embed_tokens.weight"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".index.json")
_SHARD_BYTES = 4 << 30

State = Mapping[str, "Tensor"]


def require_suffix(out: Path) -> None:
    """Raises InvalidValueError: a name that `write_published` does not write."""
    if out.suffix not in _SUFFIXES:
        raise InvalidValueError(
            f"out is {out}; allowed: a name that ends in {' or '.join(_SUFFIXES)}", param="out"
        )


def write_published(out: Path, step: "PretrainStep", facts: Mapping[str, Any], *, with_clip: bool) -> None:
    """A pre-trained branch as a file of published names, with CLIP's towers or without.

    safetensors with the facts as metadata, or where the name ends in .pth the pickled layout of the published
    file.

    Raises:
        InvalidValueError: another ending.
    """
    require_suffix(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = parts_beside(step, with_clip=with_clip)
    if out.suffix == ".safetensors":
        save_temporal(out, step.encoder, parts=parts, metadata=facts)
        return
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        file = Path(folder) / "model.safetensors"
        save_temporal(file, step.encoder, parts=parts, metadata=facts)
        payload = {"meta": json.dumps(dict(facts)), "state_dict": load_file(file), "message_hub": {}}
        save_atomically(out, payload)


def parts_beside(step: "PretrainStep", *, with_clip: bool) -> "dict[str, dict[str, Tensor]]":
    """State dicts of a file besides the temporal model's, by part of a checkpoint (layouts/key_map.py)."""
    parts = {} if step.head is None else {"extra_proj": step.head.state_dict()}
    if with_clip:
        parts |= {"vision": step.encoder.trunk.state_dict(), "text": step.text.state_dict()}
    return parts


@dataclass(frozen=True, slots=True)
class TunedParts:
    """What learnt of a chat model, over the model file that it started from; None where nothing did.

    `markers` (2, W) are the embeddings of the tokens around a video, `lora` additions by matrix.
    """

    base: ChatModelFile
    projector: State | None = None
    markers: "Tensor | None" = None
    encoder: "TemporalEncoder | None" = None
    lora: Mapping[str, Addition] | None = None


def write_model_folder(tuned: TunedParts, settings: "InstructSettings", out: Path) -> Path:
    """A folder with a model file, which is returned; what did not learn stays where it is.

    Raises:
        CheckpointError: files of the base that cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    base = tuned.base
    file = replace(
        _moved(base, out), id=settings.model.name, default_frames=settings.data.frames,
        template=settings.model.served_template or base.file.template,
    )  # fmt: skip
    if tuned.projector is not None or tuned.markers is not None:
        _write_projector(tuned, out / PROJECTOR)
        file = replace(file, projector=PROJECTOR)
    if tuned.encoder is not None:
        save_temporal(out / ADAPTER, tuned.encoder)
        file = replace(file, adapter=ADAPTER, gates=None)
    if tuned.lora is not None:
        file = _write_lora(base, settings.learn, tuned.lora, out, file)
    path = out / f"{file.id}.model.json"
    write_json(path, _without_defaults(file))
    return path


def _moved(base: ChatModelFile, out: Path) -> ModelFile:
    """The base's model file with its paths relative to another folder."""
    return base.file.moved(lambda path: os.path.relpath(base.at(path).resolve(), out.resolve()))


def _without_defaults(file: ModelFile) -> dict[str, Any]:
    """The fields that differ from the defaults; id, backend and tower always."""
    values = asdict(file)
    values["search"] = {
        name: path for name, path in values["search"].items() if path != ""
    }  # null is a choice
    return {name: value for name, value in values.items() if value not in (None, "", (), {}, [])}


def _write_projector(tuned: TunedParts, path: Path) -> None:
    """The projector and, if marker rows were trained, the embedding table that contains them."""
    base = tuned.base
    projector = open_checkpoint(base.at(base.file.projector))
    brings_table = base.file.projector != base.file.llm and "lm" in projector.parts
    parts = {"projector": tuned.projector or projector.read("projector")}
    if tuned.markers is not None:
        source = projector if brings_table else open_checkpoint(base.at(base.file.llm))
        parts["lm"] = {_EMBEDDING: _table(base, source, tuned.markers)}
    elif brings_table:
        parts["lm"] = projector.read("lm", [_EMBEDDING])  # trained with an earlier projector
    save_parts(path, parts, LLAVA)


def _table(base: ChatModelFile, source: Checkpoint, rows: "Tensor") -> "Tensor":
    """The language model's embeddings in their own number format, with the trained rows."""
    table = source.read("lm", [_EMBEDDING])[_EMBEDDING].clone()
    ids = speller_of(base).ids
    assert ids.video_start is not None
    assert ids.video_end is not None
    table[[ids.video_start, ids.video_end]] = rows.to(table.dtype)
    return table


def _write_lora(
    base: ChatModelFile, learn: "LearnSettings", lora: Mapping[str, Addition], out: Path, file: ModelFile
) -> ModelFile:
    if learn.lora_saved == "adapter":
        save_lora(out / LORA, lora, learn)
        return replace(file, lora=LORA)
    additions = [lora] if base.file.lora is None else [read_lora(base.at(base.file.lora)), lora]
    write_merged(base.at(base.file.llm), additions, out / LANGUAGE)
    if file.projector == file.llm:  # the copy contains the projector
        file = replace(file, projector=LANGUAGE)
    return replace(file, llm=LANGUAGE, lora=None)


def save_lora(folder: Path, lora: Mapping[str, Addition], learn: "LearnSettings") -> None:
    """Write additions in PEFT's layout; the configuration comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, each in lora.items():
        down, up = published_names(name)
        tensors |= {down: each.down.contiguous(), up: each.up.contiguous()}
    part = folder / f".{WEIGHTS}.part"
    save_file(tensors, part, metadata={"format": "pt"})
    part.chmod(0o644)
    part.replace(folder / WEIGHTS)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": learn.lora_rank,
        "lora_alpha": learn.lora_alpha,
        "target_modules": list(learn.lora_on),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    write_json(folder / CONFIG, config)


def write_merged(source: Path, additions: Sequence[Mapping[str, Addition]], out: Path) -> None:
    """A copy of a language model's folder with LoRA merged into its matrices."""
    out.mkdir(parents=True, exist_ok=True)
    for each in sorted(source.iterdir()):
        if each.is_file() and not each.name.endswith(_WEIGHT_SUFFIXES):
            shutil.copyfile(each, out / each.name)
    places: dict[str, str] = {}
    for number, shard in enumerate(_shards(open_checkpoint(source), additions)):
        name = f"model-{number:05d}.safetensors"
        part = out / f".{name}.part"
        save_file(shard, part, metadata={"format": "pt"})
        part.chmod(0o644)
        part.replace(out / name)
        places |= dict.fromkeys(shard, name)
    write_json(out / INDEX, {"metadata": {}, "weight_map": places})


def _shards(
    checkpoint: Checkpoint, additions: Sequence[Mapping[str, Addition]]
) -> Iterator["dict[str, Tensor]"]:
    """The tensors by published name, a few gigabytes at a time."""
    shard: dict[str, Tensor] = {}
    for key in checkpoint.weights:
        tensor = checkpoint.weights[key]
        for name in checkpoint.layout.stored(key):
            matrix = name.removeprefix("lm.").removesuffix(".weight")
            for each in additions:
                tensor = each[matrix].to(tensor) if matrix in each else tensor
        shard[key] = tensor.contiguous()
        if sum(each.nbytes for each in shard.values()) > _SHARD_BYTES:
            yield shard
            shard = {}
    if shard:
        yield shard
