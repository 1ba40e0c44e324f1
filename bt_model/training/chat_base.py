"""A chat model that training uses frozen or tunes: a projector before a Llama, with its prompt format."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.assembly.catalog import find
from bt_model.assembly.model_file import ModelFile, read_model_file
from bt_model.backends.base import BackendFiles
from bt_model.backends.llava import special_ids
from bt_model.backends.parts.llm import load_llama
from bt_model.backends.parts.projector import load_projector
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import InvalidValueError, UnknownNameError
from bt_model.prompt.own_tokens import OwnTokens
from bt_model.prompt.templates import template
from bt_model.prompt.tokenizer import open_tokenizer
from bt_model.training.data.spelling import Speller
from bt_model.types import GenerateOptions
from bt_model.vision.pool import pooling

if TYPE_CHECKING:
    from bt_model.config import ClipVisionConfig
    from bt_model.generation.llama import Llama
    from bt_model.training.settings import Precision

BACKENDS = ("llava", "video-chatgpt")  # a projector before a Llama
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class ChatModelFile:
    """The model file of a chat model, settings above it, and the folder that its paths start from."""

    folder: Path
    file: ModelFile

    def at(self, name: str) -> Path:
        return self.folder / name


def find_base(name: str, weights: Path, *, param: str) -> ChatModelFile:
    """A model file by its path, or by its name below `weights`; `param` is the setting that names it.

    Raises:
        InvalidValueError: a backend that has no projector before a Llama.
        UnknownNameError: no such model.
        CheckpointError: a file that cannot be read.
    """
    try:
        path = find(name, weights)
    except UnknownNameError as error:
        raise UnknownNameError(f"{param}: {error.message}", param=param) from error
    model = read_model_file(path, weights)
    if model.backend not in BACKENDS:
        raise InvalidValueError(
            f"{param} is {name!r}, of the backend {model.backend!r}; allowed: {', '.join(BACKENDS)}",
            param=param,
        )
    return ChatModelFile(path.parent, model)


def load_language(
    base: ChatModelFile, vision: "ClipVisionConfig", precision: "Precision"
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


def _files(base: ChatModelFile, vision: "ClipVisionConfig", dtype: torch.dtype) -> BackendFiles:
    file = base.file
    llm = open_checkpoint(base.at(file.llm))
    return BackendFiles(
        llm=llm,
        projector=llm if file.projector == file.llm else open_checkpoint(base.at(file.projector)),
        template=file.template,
        num_video_tokens=pooling(file.pooling).num_tokens(vision.num_patches),
        video_dim=vision.width,
        defaults=GenerateOptions(),
        device=_CPU,
        dtype=dtype,
        lora=None if file.lora is None else base.at(file.lora),
    )


def speller_of(base: ChatModelFile) -> Speller:
    """The model's prompt format: template, special ids and tokenizer.

    Raises:
        CheckpointError: no tokenizer there, or one without the markers that the template needs.
    """
    style = template(base.file.template)
    folder = base.at(base.file.llm)
    tokenizer = open_tokenizer(folder)
    return Speller(style, special_ids(tokenizer, style, OwnTokens.of(folder)), tokenizer.encode)
