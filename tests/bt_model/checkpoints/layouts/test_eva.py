"""EVA-CLIP checkpoints of every published layout: every name accounted for, every number in its place."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from bt_model.checkpoints.export import published
from bt_model.checkpoints.layouts.detect import detect
from bt_model.checkpoints.layouts.eva import EVA, EVA_CLIP, EVA_RETRIEVAL
from bt_model.checkpoints.layouts.key_map import KeyMap
from bt_model.checkpoints.load import (
    CHAT_MAY_MISS,
    load_adapter,
    load_part,
    load_vision,
    read_adapter,
    without_last_layer,
)
from bt_model.checkpoints.weights import Weights, open_checkpoint
from bt_model.config import EVA_G14, BTAdapterConfig, ClipTextConfig
from bt_model.errors import CheckpointError
from bt_model.text.clip_text import ClipTextTower
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from tests import tiny
from tests.golden import golden_table

SMALL = replace(tiny.VISION, family="eva", act="gelu", eps=1e-6)
TEXT = ClipTextConfig(
    vocab_size=40, context_length=12, width=16, num_layers=2, num_heads=2, mlp_width=64, projection_dim=24,
    act="gelu",
)  # fmt: skip


@cache
def shapes() -> dict[str, tuple[int, ...]]:
    listed = golden_table("checkpoint_keys")["eva_pretrain_checkpoint"]["state_dict"]
    return {key: tuple(shape) for key, shape in listed.items()}


def weightless() -> Weights:
    return Weights("eva.safetensors", shapes(), lambda name: torch.empty(shapes()[name], device="meta"))


def tower(num_layers: int = SMALL.num_layers) -> ClipVisionTower:
    return tiny.wake(ClipVisionTower(replace(SMALL, num_layers=num_layers)))


def branch(num_layers: int = 4) -> BTAdapter:
    return tiny.wake(BTAdapter(SMALL, BTAdapterConfig(num_layers, 8, None, None)), seed=1)


def without_key_biases(module: torch.nn.Module) -> None:
    """As the published layers are: their keys have no bias."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("k_proj.bias"):
                weight.zero_()


def parts(num_layers: int = SMALL.num_layers) -> dict[str, torch.nn.Module]:
    modules: dict[str, torch.nn.Module] = {"vision": tower(num_layers), "adapter": branch()}
    for module in modules.values():
        without_key_biases(module)
    return modules


def stored(modules: dict[str, torch.nn.Module], keys: KeyMap) -> dict[str, Tensor]:
    return published({part: module.state_dict() for part, module in modules.items()}, keys)


def test_every_published_name_of_the_full_size_is_accounted_for() -> None:
    keys = detect(shapes(), "file")
    assert [key for key in shapes() if not keys.stored(key) and keys.why_dropped(key) is None] == []
    assert {key: keys.published(name) for key in shapes() if (name := keys.ours(key))} == {
        k: k for k in shapes()
    }


def test_the_full_size_checkpoint_fills_tower_branch_and_text_tower() -> None:
    with torch.device("meta"):
        full = ClipVisionTower(EVA_G14)
        text = ClipTextTower(replace(TEXT, vocab_size=49408, context_length=77, width=768, num_layers=12,
                                     num_heads=12, mlp_width=3072, projection_dim=1024))  # fmt: skip
    load_vision(full, open_checkpoint(weightless()))
    load_part(text, open_checkpoint(weightless()), "text")
    weights = read_adapter(open_checkpoint(weightless()), gated=False)
    assert weights.config == BTAdapterConfig(4, 64, None, None)
    with torch.device("meta"):
        adapter = BTAdapter(EVA_G14, weights.config)
    load_adapter(adapter, weights, full)


@pytest.mark.parametrize("keys", [EVA, EVA_RETRIEVAL], ids=lambda keys: keys.name)
def test_what_is_exported_is_read_back_exactly(keys: KeyMap) -> None:
    modules = parts()
    tensors = stored(modules, keys)
    assert not [name for name in tensors if "q_proj" in name or "k_bias" in name]
    other = ClipVisionTower(SMALL)
    load_vision(other, open_checkpoint(tensors))
    assert all(
        torch.equal(a, b) for a, b in zip(other.parameters(), modules["vision"].parameters(), strict=True)
    )
    weights = read_adapter(open_checkpoint(tensors))
    adapter = BTAdapter(SMALL, weights.config)
    load_adapter(adapter, weights, other)
    assert all(
        torch.equal(a, b) for a, b in zip(adapter.parameters(), modules["adapter"].parameters(), strict=True)
    )


def test_a_text_tower_is_exported_and_read_back_exactly() -> None:
    text = tiny.wake(ClipTextTower(TEXT))
    tensors = published({"text": text.state_dict()}, EVA_RETRIEVAL)
    assert tensors["text_backbone.text_projection"].shape == (TEXT.width, TEXT.projection_dim)
    other = ClipTextTower(TEXT)
    load_part(other, open_checkpoint(tensors), "text")
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), text.parameters(), strict=True))


def test_a_tower_of_one_layer_less_leaves_the_rest_of_the_file_out() -> None:
    modules = {"vision": parts()["vision"]}
    short = ClipVisionTower(replace(SMALL, num_layers=SMALL.num_layers - 1))
    load_vision(short, open_checkpoint(stored(modules, EVA)), may_miss=CHAT_MAY_MISS)
    last = short.layers[-1].state_dict()
    same = modules["vision"].get_submodule(f"layers.{SMALL.num_layers - 2}").state_dict()
    assert all(torch.equal(last[name], same[name]) for name in same)


def test_a_branch_loses_its_last_layer_with_the_towers() -> None:
    weights = without_last_layer(read_adapter(open_checkpoint(stored({"adapter": branch()}, EVA))))
    assert weights.config.num_layers == 3
    load_adapter(BTAdapter(SMALL, weights.config), weights, tower(SMALL.num_layers - 1))


def test_the_original_tower_lies_under_visual() -> None:
    vision = {"vision": parts()["vision"]}
    tensors = stored(vision, EVA_CLIP) | {"logit_scale": torch.ones(())}
    assert all(name.startswith("visual.") or name == "logit_scale" for name in tensors)
    load_vision(ClipVisionTower(SMALL), open_checkpoint(tensors))


def test_a_branch_inside_a_larger_model_is_found_in_any_spelling() -> None:
    prefix = "model.visual_encoder."
    plain = stored({"adapter": branch()}, EVA)
    tensors = {prefix + name.replace("btadapter", "BTAdapter"): tensor for name, tensor in plain.items()}
    found = read_adapter(open_checkpoint(tensors | {"model.Qformer.x": torch.ones(1)})).state
    assert found.keys() == read_adapter(open_checkpoint(plain)).state.keys()


def test_an_eva_branch_never_has_gates() -> None:
    weights = read_adapter(open_checkpoint(stored({"adapter": branch()}, EVA)), side="chat")
    assert weights.config.middle_scale is None
    assert not {"balance1", "balance2"} & set(weights.state)


def test_a_missing_fused_tensor_is_named() -> None:
    tensors = stored({"vision": parts()["vision"]}, EVA)
    del tensors["blocks.1.attn.v_bias"]
    with pytest.raises(
        CheckpointError, match=r"missing layers\.1\.self_attn\.v_proj\.bias for ClipVisionTower"
    ):
        load_vision(ClipVisionTower(SMALL), open_checkpoint(tensors))
