"""The chat model that tuning starts from: the parts that its model file names."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bt_model.assembly.load import load_encoder, open_parts
from bt_model.assembly.placement import Placement
from bt_model.assembly.towers import TowerCache, load_tower
from bt_model.checkpoints.compatibility import check_model
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.training.chat_base import ChatModelFile, find_base, speller_of
from bt_model.training.instruct.settings import BASE, FRESH, InstructSettings
from bt_model.vision.build import build_encoder
from bt_model.vision.pool import pooling

if TYPE_CHECKING:
    from bt_model.vision.encoder import TemporalEncoder

_CPU = torch.device("cpu")


def read_base(settings: InstructSettings) -> ChatModelFile:
    """The model file of a run, overridden by the run's own settings.

    Raises:
        InvalidValueError: a backend that has no projector before a Llama.
        UnknownNameError: no such model, pooling or template.
        CheckpointError: a file that cannot be read, parts that do not fit together, or a tokenizer without a
            token of the template, of training or of serving.
    """
    given = settings.model
    base = find_base(given.base, Path(given.weights), param="model.base")
    model = base.file
    chosen = replace(model, pooling=given.pooling or model.pooling, template=given.template or model.template)
    if given.adapter == FRESH:
        chosen = replace(chosen, adapter=None, gates=None)
    elif given.adapter != BASE:
        chosen = replace(chosen, adapter=str(Path(given.adapter).resolve()))
    pooling(chosen.pooling)
    check_model(open_parts(base.folder, chosen), chosen.accept)
    for name in dict.fromkeys((given.served_template or chosen.template, chosen.template)):
        speller_of(ChatModelFile(base.folder, replace(chosen, template=name)))
    return ChatModelFile(base.folder, chosen)


def load_temporal_model(base: ChatModelFile, settings: InstructSettings) -> "TemporalEncoder":
    """The frozen tower with the temporal model that a run starts from, on the CPU in float32.

    A fresh one is initialised from torch's global generator.

    Raises:
        CheckpointError: weights that are missing or do not fit.
        InvalidValueError: the temporal model has more layers than the tower, or none on the chat path.
    """
    if settings.model.adapter != FRESH:
        parts = open_parts(base.folder, base.file)
        return load_encoder(parts, base.file, Placement(_CPU, torch.float32), TowerCache())[0]
    tower = load_tower(open_checkpoint(base.at(base.file.tower))).float().eval()
    encoder = build_encoder(
        settings.temporal, tower, skip=-1 - base.file.select_layer, upstream_compat=base.file.upstream_compat
    )
    _ = encoder.chat_reads
    return encoder.requires_grad_(requires_grad=False)


def num_video_tokens(encoder: "TemporalEncoder", pooled: str, num_frames: int) -> int:
    """How many tokens a video of T frames becomes; some poolings keep those of every frame, or pair."""
    chosen = pooling(pooled)
    num = chosen.num_tokens(encoder.tower.config.num_patches)
    if not chosen.is_per_frame:
        return num
    return num * (num_frames // 2 if is_merged(encoder, num_frames) else num_frames)


def is_merged(encoder: "TemporalEncoder", num_frames: int) -> bool:
    """Whether a branch merges pairs of that many frames."""
    config = encoder.config
    return config.has_branch and num_frames > config.branch.max_frames
