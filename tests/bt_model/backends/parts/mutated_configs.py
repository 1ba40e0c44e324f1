"""config.json files that were changed at random, each loaded by us and by transformers.

python -m tests.bt_model.backends.parts.mutated_configs COUNT SEED. One that we accept gives transformers'
logits; everything else is refused.
"""

import json
import logging
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from bt_model.backends.parts.llm import load_lm
from bt_model.errors import BtchatError
from bt_model.generation.chunk import Chunk
from bt_model.generation.language_model import compute
from bt_model.generation.llama import Llama
from tests.bt_model.backends.parts import decoders

TOLERANCE = 1e-3
LENGTH = 40
ARCHITECTURES = (
    "llama", "mistral", "qwen2", "qwen3", "granite", "smollm3", "gemma2", "cohere", "olmo2",
    "phi3", "stablelm", "mixtral",
)  # fmt: skip
_WINDOWS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 12}, "qwen2": {"use_sliding_window": True, "sliding_window": 20},
}  # fmt: skip
_ROPES: tuple[dict[str, Any], ...] = (
    {"rope_type": "default", "rope_theta": 300.0},
    {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0},
    {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64},
    {"type": "linear", "factor": 2.0},
    {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    decoders.LLAMA3,
    {key: value for key, value in decoders.LLAMA3.items() if key != "original_max_position_embeddings"},
)
_VALUES: dict[str, tuple[Any, ...]] = {
    "attention_bias": (True, False), "attention_multiplier": (0.3,), "clip_qkv": (0.5,),
    "embedding_multiplier": (3.0,), "attn_logit_softcapping": (2.0,), "final_logit_softcapping": (2.0,),
    "head_dim": (8, 16, 12, None), "hidden_act": ("silu", "gelu", "relu", "gelu_pytorch_tanh"),
    "layer_types": (["full_attention"] * 2, ["full_attention", "sliding_attention"]),
    "logit_scale": (0.1,), "logits_scaling": (4.0,), "max_position_embeddings": (256, 24, 4096),
    "max_window_layers": (0, 1, 2), "mlp_bias": (True,), "no_rope_layers": ([0, 1],),
    "num_key_value_heads": (1, 2, 4, None), "num_attention_heads": (2, 8),
    "partial_rotary_factor": (0.5, 1.0), "qkv_bias": (True,), "query_pre_attn_scalar": (3,),
    "residual_multiplier": (0.3,),
    "rms_norm_eps": (1e-2, 1e-6), "rope_parameters": _ROPES, "rope_scaling": _ROPES,
    "rope_theta": (50.0, 1e6),
    "sliding_window": (8, 64, None), "tie_word_embeddings": (True, False), "use_qk_norm": (True,),
    "use_sliding_window": (True, False), "vocab_size": (61, 80), "model_type": ("llama", "mistral", "qwen2"),
}  # fmt: skip
_DROPPED = (
    "attention_bias", "head_dim", "hidden_act", "layer_types", "max_window_layers", "mlp_bias",
    "num_key_value_heads", "rms_norm_eps", "rope_parameters", "sliding_window", "tie_word_embeddings",
    "use_sliding_window",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed config.json, what was changed, and the largest difference in logits; None where refused."""

    architecture: str
    changes: tuple[str, ...]
    difference: float | None


def mutants(seed: int, folder: Path) -> Iterator[Mutant]:
    """Those that transformers computes, without end."""
    random = Random(seed)
    for number in count():
        architecture = random.choice(ARCHITECTURES)
        config, changes = _changed(random, _plain(architecture))
        if (found := _difference(config, folder / str(number))) is not _UNBUILT:
            yield Mutant(architecture, changes, found)


_UNBUILT = object()


def _plain(architecture: str) -> dict[str, Any]:
    config = AutoConfig.for_model(architecture, **decoders.SIZES, **_WINDOWS.get(architecture, {}))
    return json.loads(config.to_json_string(use_diff=False))


def _changed(random: Random, config: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    changes: list[str] = []
    for _ in range(random.randint(1, 3)):
        if random.random() < 0.2 and (there := [name for name in _DROPPED if name in config]):
            name = random.choice(there)
            del config[name]
            changes.append(f"without {name}")
        else:
            name = random.choice(sorted(_VALUES))
            config[name] = random.choice(_VALUES[name])
            changes.append(f"{name} {config[name]}")
    return config, tuple(changes)


def _difference(config: dict[str, Any], folder: Path) -> Any:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    try:
        theirs = decoders.save(AutoConfig.from_pretrained(folder), folder)
        theirs(input_ids=_ids(LENGTH))
    except Exception:  # noqa: BLE001 - whatever it is that transformers does not compute
        return _UNBUILT
    (folder / "config.json").write_text(json.dumps(config))
    try:
        ours = load_lm(decoders.files(folder))
    except BtchatError:
        return None
    length = min(LENGTH, ours.max_context)
    embeds = ours.embed(_ids(length))
    with torch.inference_mode():
        step = compute(ours.start(1), embeds[0], [Chunk((1,), 0, length, is_prompt=True)])[0]
        expected = theirs(input_ids=_ids(length)).logits
        difference = (step - expected[0, -1]).abs().max()
        if isinstance(ours, Llama):
            difference = torch.maximum(difference, (ours(embeds) - expected).abs().max())
    return float(difference)


def _ids(length: int) -> torch.Tensor:
    return torch.arange(length)[None] * 7 % 60 + 1


def main(number: int, seed: int) -> None:
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        found = list(islice(mutants(seed, Path(folder)), number))
    wrong = [each for each in found if each.difference is not None and not each.difference < TOLERANCE]
    accepted = Counter(each.architecture for each in found if each.difference is not None)
    text = f"{number} config.jsons, {accepted.total()} accepted {dict(accepted)}, {len(wrong)} of them wrong"
    print("\n".join([text, *map(str, wrong)]))  # noqa: T201 - a program too
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
