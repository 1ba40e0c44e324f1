"""Low-rank additions in PEFT's layout: read, added, refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bt_model.backends.parts.lora import CONFIG, WEIGHTS, merge_lora, read_lora
from bt_model.config import LlamaConfig
from bt_model.errors import CheckpointError
from bt_model.generation.llama import Llama
from tests import tiny

CONFIGURATION = LlamaConfig(60, 24, 2, 4, 2, 32, 64)
NAME = "model.layers.1.self_attn.q_proj"
PREFIX = f"base_model.model.{NAME}"
Spoil = Callable[[dict[str, torch.Tensor], dict[str, Any]], None]


def decoder() -> Llama:
    return tiny.wake(Llama(CONFIGURATION))


def write(folder: Path, spoil: Spoil = lambda tensors, config: None) -> dict[str, torch.Tensor]:
    """One addition of rank 2 and alpha 6."""
    torch.manual_seed(1)
    tensors = {f"{PREFIX}.lora_A.weight": torch.randn(2, 24), f"{PREFIX}.lora_B.weight": torch.randn(24, 2)}
    config: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 6}
    spoil(tensors, config)
    save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config))
    return tensors


def test_an_addition_is_alpha_over_rank_times_up_times_down(tmp_path: Path) -> None:
    tensors = write(tmp_path)
    lm, plain = decoder(), decoder().state_dict()
    merge_lora(lm, read_lora(tmp_path), tmp_path)
    expected = (
        plain[f"{NAME}.weight"] + 3 * tensors[f"{PREFIX}.lora_B.weight"] @ tensors[f"{PREFIX}.lora_A.weight"]
    )
    torch.testing.assert_close(lm.state_dict()[f"{NAME}.weight"], expected)
    others = {name for name, tensor in lm.state_dict().items() if not torch.equal(tensor, plain[name])}
    assert others == {f"{NAME}.weight"}


def test_a_half_precision_matrix_stays_one(tmp_path: Path) -> None:
    write(tmp_path)
    lm = decoder().half()
    merge_lora(lm, read_lora(tmp_path), tmp_path)
    assert lm.get_submodule(NAME).weight.dtype == torch.float16


def without_up(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    del tensors[f"{PREFIX}.lora_B.weight"]


def elsewhere(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    for name in list(tensors):
        tensors[name.replace("1.self_attn.q_proj", "9.mlp.up_proj")] = tensors.pop(name)


def wider(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    tensors[f"{PREFIX}.lora_A.weight"] = torch.zeros(2, 25)


def of_embeddings(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    tensors["base_model.model.model.embed_tokens.lora_embedding_A"] = torch.zeros(2, 2)


def rank_stabilised(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    config["use_rslora"] = True


def without_rank(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    del config["r"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_up, "do not belong together"),
        (elsewhere, "the decoder has no such matrix"),
        (wider, r"\(24, 25\) does not fit"),
        (of_embeddings, "is no part of a low-rank addition"),
        (rank_stabilised, "use_rslora is true; allowed: false"),
        (without_rank, "not a readable LoRA configuration"),
    ],
)
def test_what_does_not_fit_is_refused(spoil: Spoil, message: str, tmp_path: Path) -> None:
    write(tmp_path, spoil)
    with pytest.raises(CheckpointError, match=message):
        merge_lora(decoder(), read_lora(tmp_path), tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    assert len(load_file(tmp_path / WEIGHTS)) == 2
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        read_lora(tmp_path)
