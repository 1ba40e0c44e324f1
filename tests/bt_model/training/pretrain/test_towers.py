"""Published towers that training stands on, of both families."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bt_model.checkpoints.export import save_parts
from bt_model.checkpoints.layouts.eva import EVA_CLIP
from bt_model.config import ClipTextConfig
from bt_model.errors import CheckpointError
from bt_model.text.clip_text import ClipTextTower
from bt_model.training.presets import preset
from bt_model.training.pretrain.run import pretrain
from bt_model.training.pretrain.settings import PretrainModel
from bt_model.training.pretrain.step import fresh_step, towers_of
from bt_model.training.trainer.log import read_rows
from bt_model.training.trainer.parallel import Rank
from bt_model.vision.clip import ClipVisionTower
from tests import tiny
from tests.bt_model.training.clips import Corpus

EVA = replace(tiny.VISION, family="eva", act="gelu", eps=1e-6)
TEXT = ClipTextConfig(49408, 77, 64, 2, 1, 96, EVA.projection_dim, act="gelu")


@pytest.fixture(scope="module")
def eva(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as published EVA-CLIP has it: the text tower is described by its tensors alone."""
    folder = tmp_path_factory.mktemp("towers") / "eva"
    folder.mkdir()
    towers = {"vision": tiny.wake(ClipVisionTower(EVA)), "text": tiny.wake(ClipTextTower(TEXT), seed=5)}
    states = {part: module.state_dict() for part, module in towers.items()}
    save_parts(folder / "model.safetensors", states, EVA_CLIP)
    vision = {
        "model_type": "eva_clip_vision_model", "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        "image_size": EVA.image_size, "patch_size": EVA.patch_size, "hidden_size": EVA.width,
        "num_hidden_layers": EVA.num_layers, "num_attention_heads": EVA.num_heads,
        "intermediate_size": EVA.mlp_width,
    }  # fmt: skip
    config = {"model_type": "eva_clip", "projection_dim": EVA.projection_dim, "vision_config": vision}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_towers_are_as_their_folder_says(corpus: Corpus, eva: Path) -> None:
    assert towers_of(PretrainModel(clip=str(corpus.clip))).vision == tiny.VISION
    assert towers_of(PretrainModel(clip=str(eva))).vision == EVA
    assert towers_of(PretrainModel(clip=str(eva))).text == TEXT


def test_spatial_layers_begin_as_copies_of_the_trunks_last(corpus: Corpus) -> None:
    settings = corpus.settings()
    step = fresh_step(settings, towers_of(settings.model))
    names = dict(step.encoder.trainable()["adapter"].named_parameters())
    trunk = dict(step.encoder.tower.named_parameters())
    first = tiny.VISION.num_layers - tiny.K
    for name in ("self_attn.q_proj.weight", "mlp.fc2.bias", "layer_norm1.weight"):
        for k in range(tiny.K):
            assert torch.equal(names[f"spatial.{k}.{name}"], trunk[f"layers.{first + k}.{name}"])


def test_the_published_eva_configuration_trains_and_keeps_no_gates(
    corpus: Corpus, eva: Path, tmp_path: Path
) -> None:
    base = corpus.settings(preset("pretrain", "published-eva"), corpus_part(corpus, eva))
    pretrain(base, tmp_path, Rank())
    rows = read_rows(tmp_path / "pretrain.csv")
    assert [row["mbta"] for row in rows] == [0.0, 0.0]
    assert all(row["vtc"] > 0 and row["mbca"] > 0 for row in rows)
    names = set(load_file(tmp_path / "bt_adapter.safetensors"))
    assert "backbone.btadapter_position.weight" in names
    assert not any("balance" in name or "extra_proj" in name for name in names)


def corpus_part(corpus: Corpus, eva: Path) -> dict[str, dict[str, object]]:
    """What makes the published run small enough for a test."""
    return {
        "model": {"clip": str(eva), "tokenizer": str(corpus.clip), "layers": tiny.K, "max_frames": 8},
        "data": {"frames": 4, "short_side": 16},
        "optimiser": {"batch": 4},
        "run": {"steps": 2, "precision": "float32"},
    }


def test_a_folder_without_a_tower_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: not a readable JSON file"):
        towers_of(PretrainModel(clip=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="lacks the field 'vision_config'"):
        towers_of(PretrainModel(clip=str(tmp_path)))
