"""Tiny random decoders as transformers saves them, and as we load them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from bt_model.backends.base import BackendFiles
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.types import GenerateOptions
from tests import tiny

SIZES: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 256,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
OURS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "llama-3.2": lambda: LlamaConfig(**SIZES, rope_parameters=LLAMA3, head_dim=16, tie_word_embeddings=True),
    "linear rope": lambda: LlamaConfig(**SIZES, rope_parameters={"rope_type": "linear", "factor": 4.0}),
    "biases": lambda: LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=48, head_dim=12),
    "qwen2": lambda: Qwen2Config(**SIZES, tie_word_embeddings=True),
}

# Only transformers computes norms of queries and keys, windows in some layers, multipliers, experts.
THEIRS: dict[str, Callable[[], PreTrainedConfig]] = {
    "qwen3": lambda: AutoConfig.for_model("qwen3", **SIZES, head_dim=8),
    "gemma2": lambda: AutoConfig.for_model("gemma2", **SIZES, head_dim=8, sliding_window=24),
    "granite": lambda: AutoConfig.for_model("granite", **SIZES, logits_scaling=3.0, residual_multiplier=0.4),
    "mixtral": lambda: AutoConfig.for_model("mixtral", **SIZES, num_local_experts=4),
}


def save(config: PreTrainedConfig, folder: Path, seed: int = 0) -> PreTrainedModel:
    """A model of that configuration, whose folder this becomes."""
    model = tiny.wake(AutoModelForCausalLM.from_config(config), seed)
    model.save_pretrained(folder)
    return model


def files(folder: Path) -> BackendFiles:
    llm = open_checkpoint(folder)
    return BackendFiles(
        llm=llm, projector=llm, template="plain", num_video_tokens=1, video_dim=8,
        defaults=GenerateOptions(temperature=0.0), device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip


def generated(model: PreTrainedModel, embeds: torch.Tensor, count: int) -> list[int]:
    """So many greedy tokens after (n, W) embeddings."""
    generate: Any = model.generate  # pyright: ignore[reportAttributeAccessIssue]  # its protocol wants private fields
    ids = generate(
        inputs_embeds=embeds[None],
        attention_mask=torch.ones(1, len(embeds), dtype=torch.int64),
        max_new_tokens=count,
        do_sample=False,
    )
    return ids[0].tolist()
