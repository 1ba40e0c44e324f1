"""The LLM of a chat model: its configuration, from any published form of config.json, and its weights."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.backends.parts.lora import merge_lora, read_lora
from bt_model.checkpoints.json_files import read_config, section
from bt_model.checkpoints.load import load_part, refuse_more_layers, shapes_of
from bt_model.checkpoints.weights import open_weights
from bt_model.config import LlamaConfig
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.generation.llama import Llama

if TYPE_CHECKING:
    from bt_model.backends.base import BackendFiles

# A nested text_config leaves out what equals the library's defaults.
_DEFAULTS = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}
_EMBEDDING = "model.embed_tokens.weight"


def read_llama_config(folder: Path) -> LlamaConfig:
    """From a flat config.json, or from the text_config in that of Hugging Face's LLaVA or InstructBLIP.

    Token ids in it are not read: published ones are wrong (docs/published-models.md, "Token ids").

    Raises:
        CheckpointError: a field is missing, or names a variant that this decoder does not implement.
    """
    config = read_config(folder)
    if "text_config" in config:
        config = {**_DEFAULTS, **section(folder, config, "text_config")}
    try:
        return LlamaConfig.from_hf(config)
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
    config = read_llama_config(files.llm)
    refuse_more_layers(files.llm, "lm", "model.layers.", config.num_layers)
    with torch.device("meta"):
        lm = Llama(config)
    load_part(lm, files.llm, "lm")
    if files.projector != files.llm and _EMBEDDING in shapes_of(files.projector, "lm"):
        _replace_embeddings(lm, files.projector)
    if files.lora is not None:
        merge_lora(lm, read_lora(files.lora), files.lora)
    lm = lm.to(files.dtype).eval().requires_grad_(requires_grad=False)
    if files.quantise == "none":
        return lm.to(files.device)
    from bt_model.generation.quantised import quantise  # noqa: PLC0415 - an extra, needed only here

    return quantise(lm, files.quantise, files.device)


def trained_rows(files: "BackendFiles") -> tuple[int, int]:
    """Rows of the token table in the LLM's folder, and of one beside the projector (0 without one).

    Raises:
        CheckpointError: a file that cannot be read.
    """
    own = shapes_of(files.llm, "lm").get(_EMBEDDING, (0,))[0]
    if files.projector == files.llm:
        return own, 0
    return own, shapes_of(files.projector, "lm").get(_EMBEDDING, (0,))[0]


def _replace_embeddings(lm: Llama, source: Path) -> None:
    weights = open_weights(source)
    table = weights[_EMBEDDING]
    width = lm.model.embed_tokens.weight.shape[1]
    if table.shape[1] != width:
        raise CheckpointError(f"{source}: {_EMBEDDING} is {tuple(table.shape)}; the LLM is {width} wide")
    if len(table) < lm.vocab_size:
        raise CheckpointError(f"{source}: {_EMBEDDING} has {len(table)} rows; the LLM has {lm.vocab_size}")
    lm.model.embed_tokens = nn.Embedding.from_pretrained(table)
