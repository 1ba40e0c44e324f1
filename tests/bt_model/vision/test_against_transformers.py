"""Tiny random CLIP models of transformers, written by it to a folder and read by us."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from bt_model.checkpoints.load import CHAT_MAY_MISS, load_part, load_vision
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.config import ClipTextConfig, ClipVisionConfig
from bt_model.text.clip_text import ClipTextTower
from bt_model.vision.clip import ClipVisionTower

END = 29
SHARED: dict[str, Any] = {"projection_dim": 12}
TEXT: dict[str, Any] = SHARED | {
    "vocab_size": 30,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 9,
    "bos_token_id": 28,
    "eos_token_id": END,
}
VISION: dict[str, Any] = SHARED | {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 12,
    "patch_size": 4,
}


def wake(module: nn.Module) -> None:
    """Weights large enough that every layer matters, norms that are not the identity."""
    torch.manual_seed(11)
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0, std=0.3)


@dataclass(frozen=True)
class Pair:
    theirs: CLIPModel
    vision: ClipVisionTower
    text: ClipTextTower


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("clip")
    theirs = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12)).eval()
    wake(theirs)
    theirs.save_pretrained(folder)
    config = theirs.config.to_dict()
    vision = ClipVisionTower(ClipVisionConfig.from_hf(config["vision_config"]))
    text = ClipTextTower(ClipTextConfig.from_hf(config["text_config"]))
    load_vision(vision, open_checkpoint(folder))
    load_part(text, open_checkpoint(folder), "text")
    return Pair(theirs, vision, text)


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def ids() -> Tensor:
    rows = [[28, 4, 17, 3, END, 0, 0], [28, 9, END, 0, 0, 0, 0], [28, 1, 2, 3, 4, 5, END]]
    return torch.tensor(rows)


def assert_equal(ours: Tensor, theirs: Tensor | None) -> None:
    assert theirs is not None
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(1.0, float(theirs.abs().max())))


@torch.no_grad()
def test_every_vision_hidden_state_is_equal(pair: Pair, pixels: Tensor) -> None:
    theirs = pair.theirs.vision_model(pixels, output_hidden_states=True).hidden_states
    ours = pair.vision(pixels, range(4))
    assert_equal(torch.stack(ours), torch.stack(theirs))


@torch.no_grad()
def test_the_image_embedding_is_equal(pair: Pair, pixels: Tensor) -> None:
    (last,) = pair.vision(pixels, [3])
    theirs = pair.theirs.get_image_features(pixel_values=pixels)
    assert isinstance(theirs, BaseModelOutputWithPooling)
    assert_equal(pair.vision.project(last[:, 0]), theirs.pooler_output)


@torch.no_grad()
def test_text_tokens_are_equal(pair: Pair, ids: Tensor) -> None:
    assert_equal(pair.text.tokens(ids), pair.theirs.text_model(ids).last_hidden_state)


@torch.no_grad()
def test_the_text_embedding_is_equal(pair: Pair, ids: Tensor) -> None:
    theirs = pair.theirs.get_text_features(input_ids=ids)
    assert isinstance(theirs, BaseModelOutputWithPooling)
    assert_equal(pair.text(ids), theirs.pooler_output)


@torch.no_grad()
def test_a_folder_with_the_vision_tower_alone_is_read(tmp_path: Path, pixels: Tensor) -> None:
    theirs = CLIPVisionModel(CLIPVisionConfig(**VISION)).eval()
    wake(theirs)
    theirs.save_pretrained(tmp_path)
    ours = ClipVisionTower(ClipVisionConfig.from_hf(theirs.config.to_dict()))
    load_vision(ours, open_checkpoint(tmp_path), may_miss=CHAT_MAY_MISS)
    assert_equal(ours(pixels, [3])[0], theirs(pixels).last_hidden_state)
