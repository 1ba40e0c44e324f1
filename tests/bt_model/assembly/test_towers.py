"""Towers are read once, shared where they are equal, and refused where their sizes are none."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bt_model.assembly.load import load
from bt_model.assembly.placement import Placement
from bt_model.assembly.towers import TowerCache, load_tower, vision_config
from bt_model.chat import encode_together
from bt_model.checkpoints.json_files import read_config
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import CheckpointError
from tests import tiny

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture
def two(tiny_weights: Path, tmp_path: Path) -> Path:
    """`one` and `other`, each with a copy of everything."""
    for name in ("one", "other"):
        shutil.copytree(tiny_weights / "tiny", tmp_path / name)
    return tmp_path


def test_copies_of_a_tower_are_one(two: Path) -> None:
    shelf = TowerCache()
    first = shelf.tower(open_checkpoint(two / "one" / "clip"), CPU)
    assert shelf.tower(open_checkpoint(two / "other" / "clip"), CPU) is first
    assert shelf.tower(open_checkpoint(two / "other" / "clip"), CPU) is first  # known by its own folder too


def test_clips_go_once_through_copies_of_a_tower(two: Path) -> None:
    shelf = TowerCache()
    chats = [
        load(str(two / n / "embedded.model.json"), two, device="cpu", towers=shelf) for n in ("one", "other")
    ]
    passes: list[object] = []
    chats[0].encoder.tower.register_forward_hook(lambda *_: passes.append(0))
    first, second = encode_together(chats, tiny.clips(1, 4))
    assert len(passes) == 1
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "name", ["vision_model.embeddings.class_embedding", "vision_model.post_layernorm.bias"]
)
def test_towers_that_differ_anywhere_stay_apart(two: Path, name: str) -> None:
    path = two / "other" / "clip" / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {name: tensors[name] + 1}, path)
    shelf = TowerCache()
    first, other = (shelf.tower(open_checkpoint(two / each / "clip"), CPU) for each in ("one", "other"))
    assert other is not first


def test_equal_weights_that_are_computed_otherwise_stay_apart(two: Path) -> None:
    path = two / "other" / "clip" / "config.json"
    config = json.loads(path.read_text())
    config["vision_config"]["layer_norm_eps"] = 1e-3
    path.write_text(json.dumps(config))
    shelf = TowerCache()
    first, other = (shelf.tower(open_checkpoint(two / each / "clip"), CPU) for each in ("one", "other"))
    assert other is not first


@pytest.mark.parametrize(
    "place",
    [Placement(torch.device("cpu"), torch.bfloat16), Placement(torch.device("meta"), torch.float32)],
)
def test_number_formats_and_devices_stay_apart(two: Path, place: Placement) -> None:
    shelf = TowerCache()
    first = shelf.tower(open_checkpoint(two / "one" / "clip"), CPU)  # held: the shelf itself holds nothing
    other = shelf.tower(open_checkpoint(two / "other" / "clip"), place)
    assert other is not first
    assert (other.position.dtype, other.position.device) == (place.dtype, place.device)


def edited(folder: Path, change: Any) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    inner = config["vision_config"]
    config["vision_config"] = {**inner, **change} if isinstance(change, dict) and change else change
    path.write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "vision_config is None; allowed: an object"),
        ([], r"vision_config is \[\]; allowed: an object"),
        ({}, "lacks the field"),
        ({"patch_size": 0}, "patch_size is 0; allowed: 1 to 12"),
        ({"patch_size": 14}, "patch_size is 14; allowed: 1 to 12"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_attention_heads": 3}, "num_attention_heads is 3; allowed: what divides hidden_size, 32"),
        ({"image_size": [12, 12]}, r"image_size is \[12, 12\]"),
        ({"image_size": 10**9}, "image_size is 1000000000"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"model_type": []}, r"model_type is \[\]; allowed: clip_vision_model"),
        ({"hidden_act": {}}, "hidden_act is {}; allowed: quick_gelu, gelu"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps is 'x'"),
        ({"projection_dim": -1}, "projection_dim is -1"),
    ],
)
def test_a_vision_config_that_is_none_is_refused(two: Path, change: Any, message: str) -> None:
    folder = two / "one" / "clip"
    assert vision_config(folder, read_config(folder)) == tiny.VISION
    with pytest.raises(CheckpointError, match=rf"config\.json: {message}"):
        vision_config(folder, read_config(edited(folder, change)))


def test_more_layers_than_the_weights_hold_are_refused_before_any_is_built(two: Path) -> None:
    folder = edited(two / "one" / "clip", {"num_hidden_layers": 1_000_000})
    with pytest.raises(
        CheckpointError, match="num_hidden_layers is 1000000; allowed: up to 5, which its weights"
    ):
        load_tower(open_checkpoint(folder))
