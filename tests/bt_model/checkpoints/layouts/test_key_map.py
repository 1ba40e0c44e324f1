from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bt_model.checkpoints.layouts.clip import HF_CLIP, LEGACY, RETRIEVAL
from bt_model.checkpoints.layouts.detect import detect
from bt_model.checkpoints.layouts.key_map import BUFFER, KeyMap, Stored
from bt_model.checkpoints.layouts.llava import LLAVA
from bt_model.checkpoints.load import CHAT_MAY_MISS, load_adapter, load_part, load_vision, read_adapter
from bt_model.checkpoints.weights import Weights, open_checkpoint
from bt_model.config import CLIP_L14, BTAdapterConfig, ClipTextConfig
from bt_model.errors import CheckpointError
from bt_model.text.clip_text import ClipTextTower
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from tests.golden import golden_table

TEXT_L14 = ClipTextConfig(
    vocab_size=49408,
    context_length=77,
    width=768,
    num_layers=12,
    num_heads=12,
    mlp_width=3072,
    projection_dim=768,
)
L = CLIP_L14.num_layers
SLICE = range(L - 4, L - 1)

Shapes = dict[str, list[int]]


@cache
def table() -> dict[str, Any]:
    return golden_table("checkpoint_keys")


def retrieval() -> Shapes:
    entry = table()["retrieval_pretrain_checkpoint"]
    return entry["state_dict"] | entry["optional_legacy_buffer"]


def zero_shot() -> Shapes:
    gone = table()["retrieval_zero_shot_config_backbone"]["missing_vs_pretrain"]
    return {k: v for k, v in retrieval().items() if k not in gone and not k.startswith("extra_proj")}


def legacy() -> Shapes:
    entry = table()["legacy_timesFPN_checkpoint"]
    plain = {k: v for k, v in retrieval().items() if "btadapter" not in k}
    return plain | entry["renamed_keys"] | entry["possible_extra_keys"]


def chat_inference() -> Shapes:
    entry = table()["chat_inference_vision_tower"]
    return {entry["prefix_in_checkpoints"] + k: v for k, v in entry["state_dict_without_prefix"].items()}


def chat_inference_bare() -> Shapes:
    return table()["chat_inference_vision_tower"]["state_dict_without_prefix"]


def chat_training() -> Shapes:
    entry = table()["chat_training_vision_tower"]
    return {entry["prefix_in_model"] + k: v for k, v in entry["state_dict_without_prefix"].items()}


def chat_training_bare() -> Shapes:
    return table()["chat_training_vision_tower"]["state_dict_without_prefix"]


def fine_tuned() -> Shapes:
    return table()["chat_finetuned_branch_file"]["state_dict"]


def projector() -> Shapes:
    return table()["chat_projector_file"]["state_dict"]


LAYOUTS = {
    f.__name__: f
    for f in (
        retrieval,
        zero_shot,
        legacy,
        chat_inference,
        chat_inference_bare,
        chat_training,
        chat_training_bare,
        fine_tuned,
        projector,
    )
}
LEFT_OUT = {
    "retrieval": {"text_backbone.text_model.embeddings.position_ids"},
    "zero_shot": {"text_backbone.text_model.embeddings.position_ids"},
    "legacy": {"text_backbone.text_model.embeddings.position_ids", "backbone.timesFPN_pos_embed.weight"},
}


def weightless(shapes: Shapes) -> Weights:
    """A checkpoint of full size without memory."""
    known = {k: tuple(v) for k, v in shapes.items()}

    def read(name: str) -> Tensor:
        return torch.empty(known[name], device="meta")

    return Weights("full.safetensors", known, read)


@dataclass(frozen=True)
class FullSize:
    tower: ClipVisionTower
    text: ClipTextTower
    head: nn.Sequential


@pytest.fixture(scope="module")
def full() -> FullSize:
    with torch.device("meta"):
        head = nn.Sequential(nn.Linear(1024, 768), nn.LayerNorm(768))
        return FullSize(ClipVisionTower(CLIP_L14), ClipTextTower(TEXT_L14), head)


def key_map(layout: str) -> tuple[Shapes, KeyMap]:
    shapes = LAYOUTS[layout]()
    return shapes, detect(shapes, layout, L)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_published_name_is_mapped_or_left_out_for_a_reason(layout: str) -> None:
    shapes, keys = key_map(layout)
    unexplained = [key for key in shapes if keys.ours(key) is None and not keys.why_dropped(key)]
    assert unexplained == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_left_out_but_the_named_tensors(layout: str) -> None:
    shapes, keys = key_map(layout)
    assert {key for key in shapes if keys.why_dropped(key)} == LEFT_OUT.get(layout, set())


def test_leading_axes_are_dropped_where_a_tensor_has_them() -> None:
    stored = Stored("cls_token", leading=2)
    assert (stored.shape((1, 1, 5)), stored.shape((3, 4, 5))) == ((5,), (3, 4, 5))


def test_constant_buffers_of_llava_are_left_out() -> None:
    tower = "model.vision_tower.vision_tower.vision_model.embeddings"
    names = [f"{tower}.position_ids", "model.layers.0.self_attn.rotary_emb.inv_freq"]
    assert [LLAVA.why_dropped(name) for name in names] == [BUFFER, BUFFER]
    assert LLAVA.why_dropped(f"{tower}.class_embedding") is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_map_leads_back_to_the_published_name(layout: str) -> None:
    shapes, keys = key_map(layout)
    ours = {key: name for key in shapes if (name := keys.ours(key))}
    assert {key: keys.published(name) for key, name in ours.items()} == {key: key for key in ours}


@pytest.mark.parametrize("layout", ["retrieval", "zero_shot", "legacy"])
def test_full_size_retrieval_checkpoints_fill_every_module(layout: str, full: FullSize) -> None:
    weights = weightless(LAYOUTS[layout]())
    load_vision(full.tower, open_checkpoint(weights))
    load_part(full.text, open_checkpoint(weights), "text")
    load_full_size_branch(weights, full, "retrieval")
    if layout != "zero_shot":
        load_part(full.head, open_checkpoint(weights), "extra_proj")


@pytest.mark.parametrize("layout", ["chat_inference", "chat_inference_bare"])
def test_full_size_chat_towers_lack_only_the_projection(layout: str, full: FullSize) -> None:
    weights = weightless(LAYOUTS[layout]())
    load_vision(full.tower, open_checkpoint(weights), may_miss=CHAT_MAY_MISS)
    load_full_size_branch(weights, full, "chat")


@pytest.mark.parametrize("layout", ["chat_training", "chat_training_bare"])
def test_full_size_training_slices_fill_trunk_layers_20_to_22(layout: str, full: FullSize) -> None:
    weights = weightless(LAYOUTS[layout]())
    kept = ("position_embedding.", *(f"layers.{i}." for i in SLICE))
    others = tuple(name for name in full.tower.state_dict() if not name.startswith(kept))
    load_vision(full.tower, open_checkpoint(weights), may_miss=others)
    load_full_size_branch(weights, full, "chat")


def load_full_size_branch(weights: Weights, full: FullSize, side: Any) -> None:
    branch = read_adapter(open_checkpoint(weights), side=side)
    assert branch.config.num_layers == 4
    with torch.device("meta"):
        adapter = BTAdapter(CLIP_L14, branch.config)
    load_adapter(adapter, branch, full.tower)


def test_the_fine_tuned_file_is_three_layers_of_four(full: FullSize) -> None:
    weights = weightless(fine_tuned())
    assert read_adapter(open_checkpoint(weights)).config == BTAdapterConfig(num_layers=4, max_frames=64)
    load_full_size_branch(weights, full, "chat")


def test_a_training_slice_keeps_its_true_layer_numbers() -> None:
    shapes, keys = key_map("chat_training")
    names = [keys.ours(key) for key in shapes if ".layers." in key]
    assert sorted({int(name.split(".")[2]) for name in names if name}) == list(SLICE)


def test_a_slice_whose_place_is_unknown_is_left_out() -> None:
    shapes = chat_training()
    keys = detect(shapes, "file")
    assert {keys.ours(key) for key in shapes if "vision_tower.layers." in key} == {None}


def test_a_full_retrieval_checkpoint_is_never_renumbered() -> None:
    shapes, keys = key_map("retrieval")
    trunk = [key for key in shapes if key.startswith("backbone.layers.")]
    assert [keys.ours(key) for key in trunk] == [key.replace("backbone", "vision", 1) for key in trunk]


def test_the_projector_file_holds_the_projector_and_the_embedding_table() -> None:
    shapes, keys = key_map("projector")
    expected = {"projector.weight", "projector.bias", "lm.model.embed_tokens.weight"}
    assert {keys.ours(key) for key in shapes} == expected


def test_an_unknown_layout_is_refused_with_some_of_its_names() -> None:
    with pytest.raises(CheckpointError, match=r"net\.safetensors: .*conv1\.weight"):
        detect(["conv1.weight"], "net.safetensors")


def test_both_spellings_lead_to_the_same_names() -> None:
    key = "backbone.btadapter_S_layers.2.mlp.fc1.bias"
    assert RETRIEVAL.ours(key) == LEGACY.ours(key.replace("btadapter", "timesFPN"))


def test_the_contrastive_scale_is_left_out_of_a_clip_folder() -> None:
    assert HF_CLIP.ours("logit_scale") is None
    assert HF_CLIP.why_dropped("logit_scale")


def test_a_tower_inside_a_llava_checkpoint_is_found() -> None:
    key = "model.vision_tower.vision_tower.vision_model.encoder.layers.3.mlp.fc1.bias"
    assert detect([key, "model.mm_projector.weight"], "file").ours(key) == "vision.layers.3.mlp.fc1.bias"


def test_rotary_buffers_are_left_out_of_a_chat_model() -> None:
    keys = detect(["model.mm_projector.bias", "lm_head.weight"], "file")
    assert keys.why_dropped("model.layers.0.self_attn.rotary_emb.inv_freq")
