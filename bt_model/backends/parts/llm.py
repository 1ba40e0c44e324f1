"""The LLM of a chat model: its configuration, from any published form of config.json, and its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bt_model.backends.parts.decoder_config import read_decoder_config
from bt_model.backends.parts.lora import merge_lora, read_lora
from bt_model.checkpoints.json_files import read_config, section
from bt_model.checkpoints.load import load_part, refuse_more_layers
from bt_model.checkpoints.weights import Checkpoint
from bt_model.config import LlamaConfig
from bt_model.errors import CheckpointError, InvalidValueError
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
    is_nested = "text_config" in config
    if is_nested:
        config = section(folder, config, "text_config")
    try:
        return read_decoder_config(config, is_nested=is_nested)
    except KeyError as error:
        raise CheckpointError(f"{folder}/config.json: lacks the field {error}") from error
    except InvalidValueError as error:
        raise CheckpointError(f"{folder}/config.json: {error.message}") from error


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
