"""The LLM of a chat model: its configuration, from any published form of config.json, and its weights."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bt_model.backends.parts.decoder_config import (
    OtherDecoderError,
    read_decoder_config,
    read_other_sizes,
)
from bt_model.backends.parts.lora import merge_lora, read_lora
from bt_model.checkpoints.json_files import read_config, section
from bt_model.checkpoints.load import load_part, refuse_more_layers
from bt_model.checkpoints.weights import Checkpoint
from bt_model.config import LlamaConfig
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.generation.kv_cache import CacheSizes
from bt_model.generation.language_model import LanguageModel
from bt_model.generation.llama import Llama

if TYPE_CHECKING:
    from bt_model.backends.base import BackendFiles

_EMBEDDING = "model.embed_tokens.weight"


def read_llama_config(folder: Path) -> LlamaConfig:
    """From a folder's config.json.

    Raises:
        CheckpointError: it is missing, lacks a field, or says what this decoder does not compute.
    """
    return llama_config(folder, read_config(folder))


def llama_config(folder: Path, config: Mapping[str, Any]) -> LlamaConfig:
    """From a flat config.json, or from the text_config in that of Hugging Face's LLaVA or InstructBLIP.

    Token ids in it are not read: published ones are wrong (docs/published-models.md, "Token ids").

    Raises:
        CheckpointError: a field is missing, or names a variant that this decoder does not implement.
    """
    with _named(folder):
        return _decoder_config(folder, config)


def read_cache_sizes(folder: Path) -> CacheSizes:
    """From a folder's config.json, whoever computes the decoder.

    Raises:
        CheckpointError: it is missing, or lacks a field.
    """
    config = read_config(folder)
    with _named(folder):
        try:
            ours = _decoder_config(folder, config)
        except OtherDecoderError:
            return read_other_sizes(config)
        return CacheSizes(ours.max_context, ours.num_layers, ours.num_kv_heads, ours.head_dim)


def _decoder_config(folder: Path, config: Mapping[str, Any]) -> LlamaConfig:
    if "text_config" in config:
        return read_decoder_config(section(folder, config, "text_config"), is_nested=True)
    return read_decoder_config(config)


@contextmanager
def _named(folder: Path) -> Generator[None]:
    """Errors name the file."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(f"{folder}/config.json: lacks the field {error}") from error
    except InvalidValueError as error:
        raise CheckpointError(f"{folder}/config.json: {error.message}") from error


def load_lm(files: "BackendFiles") -> LanguageModel:
    """The decoder for answers: ours where we compute its model type, or else transformers'.

    Raises:
        CheckpointError: neither computes it; tensors that are missing, unexpected or wrongly shaped.
    """
    checkpoint = files.needed("llm")
    try:
        _decoder_config(checkpoint.path, checkpoint.required_config())
    except OtherDecoderError as error:
        if trained_rows(files)[1] or "text_config" in checkpoint.required_config():
            way_out = "transformers computes others, but only in a folder of their own with its token table"
            raise CheckpointError(f"{checkpoint.path}/config.json: {error.message}; {way_out}") from error
        from bt_model.backends.parts.transformers_llm import load_transformers  # noqa: PLC0415 - slow to import

        return load_transformers(files, error.message)
    except (KeyError, InvalidValueError):  # load_llama says it
        pass
    return load_llama(files)


def load_llama(files: "BackendFiles") -> Llama:
    """The decoder on its device, quantised if requested.

    A projector file may bring token embeddings that were trained with it; they replace the folder's.
    A LoRA is added to the matrices.

    Raises:
        CheckpointError: tensors that are missing, unexpected or wrongly shaped.
    """
    checkpoint = files.needed("llm")
    config = llama_config(checkpoint.path, checkpoint.required_config())
    refuse_more_layers(checkpoint, "lm", "model.layers.", config.num_layers)
    with torch.device("meta"):
        lm = Llama(config)
    load_part(lm, checkpoint, "lm")
    if trained_rows(files)[1]:
        _replace_embeddings(lm, files.needed("projector"))
    if files.lora is not None:
        merge_lora(lm, read_lora(files.lora), files.lora)
    lm = lm.to(files.dtype).eval().requires_grad_(requires_grad=False)
    if files.quantise == "none":
        return lm.to(files.device)
    from bt_model.generation.quantised import quantise  # noqa: PLC0415 - an extra, needed only here

    return quantise(lm, files.quantise, files.device)


def trained_rows(files: "BackendFiles") -> tuple[int, int]:
    """Rows of the token table in the LLM's folder, and of one with the projector (0: none)."""
    llm, projector = (files.needed(part) for part in ("llm", "projector"))
    own, brought = (each.shapes("lm").get(_EMBEDDING, (0,))[0] for each in (llm, projector))
    return own, 0 if projector is llm else brought


def _replace_embeddings(lm: Llama, checkpoint: Checkpoint) -> None:
    table = checkpoint.read("lm", [_EMBEDDING])[_EMBEDDING]
    width, where = lm.model.embed_tokens.weight.shape[1], checkpoint.path
    if table.shape[1] != width:
        raise CheckpointError(f"{where}: {_EMBEDDING} is {tuple(table.shape)}; the LLM is {width} wide")
    if len(table) < lm.vocab_size:
        raise CheckpointError(f"{where}: {_EMBEDDING} has {len(table)} rows; the LLM has {lm.vocab_size}")
    lm.model.embed_tokens = nn.Embedding.from_pretrained(table)
