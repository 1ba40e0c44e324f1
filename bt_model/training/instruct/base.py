"""The chat model that tuning starts from: the parts that its model file names."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.backends.files import BackendFiles
from bt_model.backends.llava import special_ids
from bt_model.backends.llm import load_llama
from bt_model.backends.projector import load_projector
from bt_model.backends.templates import template
from bt_model.backends.tokenizer import open_tokenizer
from bt_model.checkpoints.fit import check_model
from bt_model.errors import InvalidValueError
from bt_model.model_file import ModelFile, find, read
from bt_model.model_folder import load_encoder, parts_of
from bt_model.placement import Placement
from bt_model.tower_shelf import TowerShelf, load_tower
from bt_model.training.instruct.config import BASE, FRESH, InstructSettings
from bt_model.training.instruct.spelling import Speller
from bt_model.types import GenerateOptions
from bt_model.vision.pool import pooling
from bt_model.vision.temporal import build_encoder

if TYPE_CHECKING:
    from bt_model.config import ClipVisionConfig
    from bt_model.generation.llama import Llama
    from bt_model.training.precision import Precision
    from bt_model.vision.encoder import TemporalEncoder

BACKENDS = ("llava", "video-chatgpt")  # a projector before a Llama
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class BaseFile:
    """The model file with the settings above it, and the folder that its paths start from."""

    folder: Path
    file: ModelFile

    def at(self, name: str) -> Path:
        return self.folder / name


def read_base(settings: InstructSettings) -> BaseFile:
    """The model file of a run.

    Raises:
        InvalidValueError: a backend that has no projector before a Llama.
        UnknownNameError: no such model, pooling or template.
        CheckpointError: a file that cannot be read, or parts that do not fit together.
    """
    given = settings.model
    path = find(given.base, Path(given.weights))
    model = read(path)
    if model.backend not in BACKENDS:
        raise InvalidValueError(
            f"model.base is {given.base!r}, of the backend {model.backend!r}; allowed: {', '.join(BACKENDS)}",
            param="model.base",
        )
    chosen = replace(model, pooling=given.pooling or model.pooling, template=given.template or model.template)
    if given.adapter == FRESH:
        chosen = replace(chosen, adapter=None, gates=None)
    elif given.adapter != BASE:
        chosen = replace(chosen, adapter=str(Path(given.adapter).resolve()))
    pooling(chosen.pooling)
    template(chosen.template)
    check_model(parts_of(path.parent, chosen), chosen.accept)
    return BaseFile(path.parent, chosen)


def load_temporal_model(base: BaseFile, settings: InstructSettings) -> "TemporalEncoder":
    """The frozen tower with the temporal model that a run starts from, on the CPU in float32.

    A fresh one is drawn from torch's global generator.

    Raises:
        CheckpointError: weights that are missing or do not fit.
        InvalidValueError: more layers than the tower has, or none on the chat path.
    """
    if settings.model.adapter != FRESH:
        return load_encoder(base.folder, base.file, Placement(_CPU, torch.float32), TowerShelf())[0]
    tower = load_tower(base.at(base.file.tower)).float().eval()
    encoder = build_encoder(
        settings.temporal, tower, skip=-1 - base.file.select_layer, upstream_compat=base.file.upstream_compat
    )
    _ = encoder.chat_reads
    return encoder.requires_grad_(requires_grad=False)


def load_language(
    base: BaseFile, vision: "ClipVisionConfig", precision: "Precision"
) -> "tuple[Llama, nn.Module]":
    """The frozen language model and its projector, on the CPU.

    The language model's matrices are held in the format that they are multiplied in; norms and projector are
    float32.

    Raises:
        CheckpointError: weights that are missing or do not fit.
    """
    files = _files(base, vision, getattr(torch, precision))
    lm = load_llama(files)
    for module in lm.modules():
        if isinstance(module, nn.RMSNorm):
            module.float()
    projector = load_projector(replace(files, dtype=torch.float32), vision.width, lm.hidden_size)
    return lm, projector


def _files(base: BaseFile, vision: "ClipVisionConfig", dtype: torch.dtype) -> BackendFiles:
    file = base.file
    return BackendFiles(
        llm=base.at(file.llm),
        projector=base.at(file.projector),
        template=file.template,
        num_video_tokens=pooling(file.pooling).num_tokens(vision.num_patches),
        video_dim=vision.width,
        defaults=GenerateOptions(),
        device=_CPU,
        dtype=dtype,
        lora=None if file.lora is None else base.at(file.lora),
    )


def speller_of(base: BaseFile) -> Speller:
    """How the tuned model's prompts are spelled.

    Raises:
        CheckpointError: no tokenizer there, or one without the markers that the template needs.
    """
    style = template(base.file.template)
    tokenizer = open_tokenizer(base.at(base.file.llm))
    return Speller(style, special_ids(tokenizer, marked=not style.is_video_first), tokenizer.spell)


def num_video_tokens(encoder: "TemporalEncoder", pooled: str, num_frames: int) -> int:
    """How many tokens a video of T frames becomes; `frames*` keep those of every frame, or pair of frames."""
    num = pooling(pooled).num_tokens(encoder.tower.config.num_patches)
    if not pooled.startswith("frames"):
        return num
    return num * (num_frames // 2 if is_merged(encoder, num_frames) else num_frames)


def is_merged(encoder: "TemporalEncoder", num_frames: int) -> bool:
    """Whether a branch merges pairs of that many frames."""
    config = encoder.config
    return config.has_branch and num_frames > config.branch.max_frames
