"""LLMs of other model types than ours, loaded by transformers out of their own folder."""

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging
from transformers.utils.import_utils import is_flash_attn_2_available

from bt_model.backends.parts.lora import merge_lora, read_lora
from bt_model.checkpoints.load import refuse_more_layers
from bt_model.checkpoints.weights import Checkpoint
from bt_model.config import read_count
from bt_model.errors import BtchatError, CheckpointError, InvalidValueError, require
from bt_model.generation.transformers_model import TransformersModel

if TYPE_CHECKING:
    from bt_model.backends.base import BackendFiles

_LAYERS = "model.layers."
_SHOWN = 300  # characters of the library's errors

_logger = logging.getLogger(__name__)


def load_transformers(files: "BackendFiles", reason: str) -> TransformersModel:
    """The decoder on its device; code that a folder brings is not run, and nothing is downloaded.

    `reason` says why it is not one of ours, for errors.

    Raises:
        CheckpointError: transformers lacks it too, cannot run it from embeddings, or misses tensors.
        InvalidValueError: it was to be quantised.
    """
    checkpoint = files.needed("llm")
    folder = checkpoint.path
    require(
        files.quantise == "none", "quantise", files.quantise, "none with an LLM that transformers computes"
    )
    num_layers = checkpoint.required_config().get("num_hidden_layers")
    if type(num_layers) is int and checkpoint.count_layers("lm", _LAYERS):
        refuse_more_layers(checkpoint, "lm", _LAYERS, num_layers)
    try:
        model, info = _read(checkpoint, files)
        _refuse_gaps(checkpoint, info)
        if files.lora is not None:
            merge_lora(model, read_lora(files.lora), files.lora)
        text: Any = model.config.get_text_config()
        context = read_count({"max_position_embeddings": None, **text.to_dict()}, "max_position_embeddings")
        return TransformersModel(model.to(files.device), context)
    except InvalidValueError as error:
        raise CheckpointError(f"{folder}/config.json: {error.message}") from error
    except BtchatError:
        raise
    except Exception as error:  # whatever a model's code raises
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}"
        raise CheckpointError(f"{folder}/config.json: {reason}; transformers cannot run it: {why}") from error


def _read(checkpoint: Checkpoint, files: "BackendFiles") -> tuple[Any, dict[str, Any]]:
    """The model, and what became of its tensors."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    here: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(checkpoint.path, **here)
        load: Any = partial(
            AutoModelForCausalLM.from_pretrained,
            checkpoint.path,
            config=config,
            dtype=files.dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **here,
        )  # fmt: skip - tensors that do not fit are told, and refused below
        if has_flash_attention(files.device, files.dtype):
            try:
                return load(attn_implementation="flash_attention_2")
            except (ImportError, ValueError) as error:
                _logger.warning("%s: without FlashAttention: %s", checkpoint.path.name, error)
        return load()
    finally:
        if bars:
            transformers_logging.enable_progress_bar()


def has_flash_attention(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the package flash-attn is here, and computes this number format on this device."""
    is_half = dtype in (torch.float16, torch.bfloat16)
    return device.type == "cuda" and is_half and is_flash_attn_2_available()


def _refuse_gaps(checkpoint: Checkpoint, info: dict[str, Any]) -> None:
    """Tensors that are missing would be drawn at random, and others left out."""
    own = {stored.key for stored in checkpoint.parts.get("lm", {}).values()}
    kinds = {
        "missing": info["missing_keys"],
        "wrong shape": info["mismatched_keys"],
        "unexpected": own & set(info["unexpected_keys"]),
    }
    problems = [f"{kind} {', '.join(sorted(map(str, names)))}" for kind, names in kinds.items() if names]
    if problems:
        raise CheckpointError(f"{checkpoint.where}: {'; '.join(problems)} for transformers' model")
