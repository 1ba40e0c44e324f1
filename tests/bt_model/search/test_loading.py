"""Which files a joint space is made of, what it shares, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bt_model.assembly.load import load
from bt_model.assembly.towers import TowerCache
from bt_model.checkpoints.export import save_parts
from bt_model.checkpoints.layouts.clip import BRANCH
from bt_model.checkpoints.layouts.eva import EVA_CLIP
from bt_model.config import ClipTextConfig
from bt_model.errors import CheckpointError
from bt_model.search.loading import load_joint_space
from bt_model.text.clip_text import ClipTextTower
from bt_model.vision.clip import ClipVisionTower
from tests import tiny
from tests.bt_model.search.folders import write_clip_folder

PRETRAINED, TUNED = "bt_adapter.safetensors", "bt_adapter_tuned.safetensors"


@pytest.fixture
def folder(tiny_weights: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_weights / "tiny", tmp_path / "tiny")


def changed(folder: Path, **values: Any) -> str:
    """A model file beside the others; a value of None takes the field away."""
    known = json.loads((folder / "embedded.model.json").read_text())
    said = {name: value for name, value in {**known, **values}.items() if value is not None}
    path = folder / "changed.model.json"
    path.write_text(json.dumps(said))
    return str(path)


def rows(name: str, folder: Path) -> torch.Tensor:
    return load_joint_space(name, folder, device="cpu").embed_windows(tiny.clips(1, 6)[0], 4, 1)


def test_the_tower_is_the_chat_models_own(folder: Path) -> None:
    towers = TowerCache()
    name = str(folder / "embedded.model.json")
    chat = load(name, folder, device="cpu", towers=towers)
    space = load_joint_space(name, folder, device="cpu", towers=towers)
    assert space.encoder.tower is chat.encoder.tower
    assert space.frame_size == chat.card.frame_size


def test_a_model_searches_with_the_adapter_that_is_named_for_it(folder: Path) -> None:
    named = rows(changed(folder, search={"adapter": PRETRAINED}), folder)
    own = rows(changed(folder, search=None), folder)
    assert torch.equal(named, rows(changed(folder, adapter=PRETRAINED, search=None), folder))
    assert torch.equal(own, rows(changed(folder, search={"adapter": TUNED}), folder))
    assert not torch.equal(named, own)


def test_null_searches_without_an_adapter(folder: Path) -> None:
    without = rows(changed(folder, search={"adapter": None}), folder)
    assert torch.equal(without, rows(str(folder / "embedded-clip.model.json"), folder))


def test_the_text_tower_lies_in_the_towers_folder_or_where_it_is_said(folder: Path) -> None:
    here = load_joint_space(changed(folder, search=None), folder, device="cpu").embed_texts(["circle"])
    (folder / "clip").rename(folder / "other")
    shutil.copytree(folder / "other", folder / "clip")
    (folder / "clip" / "tokenizer.json").unlink()
    for files in ({"text": "other"}, {"text": "clip", "tokenizer": "other"}):
        said = changed(folder, search=files)
        there = load_joint_space(said, folder, device="cpu").embed_texts(["circle"])
        assert torch.equal(there, here)


def test_stored_embeddings_are_told_apart_by_what_made_them(folder: Path) -> None:
    (folder / "a.txt").write_text("circle\n")
    (folder / "b.txt").write_text("circle\nwhich way\n")
    prints = [
        load_joint_space(changed(folder, search=search), folder, device="cpu").fingerprint
        for search in (
            {"adapter": PRETRAINED},
            {"adapter": TUNED},
            {"adapter": None},
            {"adapter": PRETRAINED, "bank": "a.txt"},
            {"adapter": PRETRAINED, "bank": "b.txt"},
            {"adapter": PRETRAINED},
        )
    ]
    assert prints[0] == prints[5]
    assert len(set(prints)) == 5


def test_eva_text_towers_are_read_by_their_tensors(folder: Path) -> None:
    vision = replace(tiny.VISION, family="eva", act="gelu", eps=1e-6)
    text = ClipTextConfig(600, 77, 64, 2, 1, 96, vision.projection_dim, act="gelu")
    tower = tiny.wake(ClipTextTower(text), seed=5)
    parts = {"vision": tiny.wake(ClipVisionTower(vision)).state_dict(), "text": tower.state_dict()}
    eva = folder / "eva"
    eva.mkdir()
    save_parts(eva / "model.safetensors", parts, EVA_CLIP)
    described = {
        "model_type": "eva_clip_vision_model", "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        "image_size": vision.image_size, "patch_size": vision.patch_size, "hidden_size": vision.width,
        "num_hidden_layers": vision.num_layers, "num_attention_heads": vision.num_heads,
        "intermediate_size": vision.mlp_width,
    }  # fmt: skip
    config = {"model_type": "eva_clip", "projection_dim": vision.projection_dim, "vision_config": described}
    (eva / "config.json").write_text(json.dumps(config))
    said = changed(folder, tower="eva", search={"tokenizer": "clip", "adapter": None})
    space = load_joint_space(said, folder, device="cpu")
    ids = space.tokenizer(["which way"], 77)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(tower(ids), dim=1)
    assert torch.equal(space.embed_texts(["which way"]), expected)
    assert tuple(space.embed_windows(tiny.clips(1, 4)[0], 4, 1).shape) == (1, vision.projection_dim)


def without(path: Path, *starts: str) -> None:
    """The same file of weights without tensors whose names begin so."""
    save_file({name: each for name, each in load_file(path).items() if not name.startswith(starts)}, path)


@pytest.mark.parametrize("part", ["visual_projection", "vision_model.post_layernorm"])
def test_a_tower_without_its_way_into_the_joint_space_is_refused(folder: Path, part: str) -> None:
    without(folder / "clip" / "model.safetensors", part)
    lacking = part.rpartition(".")[2]
    with pytest.raises(CheckpointError, match=f"its file lacks {lacking}; a folder with all of CLIP has"):
        load_joint_space(changed(folder), folder, device="cpu")


def test_a_folder_without_a_text_tower_is_refused_with_what_to_say(folder: Path) -> None:
    without(folder / "clip" / "model.safetensors", "text_model", "text_projection")
    with pytest.raises(CheckpointError, match=r'clip has none; "search" in the model file says which'):
        load_joint_space(changed(folder), folder, device="cpu")


def test_a_text_tower_of_another_joint_space_is_refused(folder: Path) -> None:
    write_clip_folder(folder / "hf")
    with pytest.raises(CheckpointError, match="joint space of 12 numbers, and the tower one of 24"):
        load_joint_space(changed(folder, search={"text": "hf/clip"}), folder, device="cpu")


def test_a_tokenizer_with_more_ids_than_its_tower_is_refused(folder: Path) -> None:
    tensors = load_file(folder / "clip" / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    save_file({**tensors, name: tensors[name][:40].clone()}, folder / "clip" / "model.safetensors")
    config = json.loads((folder / "clip" / "config.json").read_text())
    config["text_config"]["vocab_size"] = 40
    (folder / "clip" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"search\.tokenizer has 280 ids, and its text tower 40"):
        load_joint_space(changed(folder), folder, device="cpu")


def test_the_bank_is_its_lines_in_the_joint_space(folder: Path) -> None:
    (folder / "bank.txt").write_text("circle\n\n  which way \r\n", encoding="utf-8")
    space = load_joint_space(changed(folder, search={"bank": "bank.txt"}), folder, device="cpu")
    assert torch.equal(space.bank, space.embed_texts(["circle", "which way"]))
    assert len(load_joint_space(changed(folder, search=None), folder, device="cpu").bank) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, r"search\.bank is no readable text"),
        (b"\xff\xfe", r"search\.bank is no readable text"),
        (b" \n\n", r"search\.bank has 0 texts in 3 bytes or more; allowed: 1 or more texts, one a line"),
        (b"word\n" * (1 << 18), r"allowed: 1 or more texts, one a line, in up to 1048576 bytes"),
    ],
)
def test_a_bank_without_texts_or_end_is_refused(folder: Path, data: bytes | None, message: str) -> None:
    if data is not None:
        (folder / "bank.txt").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        load_joint_space(changed(folder, search={"bank": "bank.txt"}), folder, device="cpu")


def test_a_branch_that_was_published_for_chat_alone_is_refused(folder: Path) -> None:
    last = f".{tiny.K - 1}."
    state = {name: each for name, each in tiny.adapter().state_dict().items() if last not in name}
    save_parts(folder / "chat.safetensors", {"adapter": state}, BRANCH)
    with pytest.raises(
        CheckpointError, match=r"needs the branch's last layer, which chat\.safetensors lacks"
    ):
        load_joint_space(changed(folder, search={"adapter": "chat.safetensors"}), folder, device="cpu")
