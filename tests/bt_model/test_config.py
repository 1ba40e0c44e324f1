"""Architectures from Hugging Face's config.json: published sizes, defaults, and what is refused."""

import math
from dataclasses import replace

import pytest

from bt_model.config import (
    CLIP_L14,
    EVA_G14,
    BTAdapterConfig,
    ClipTextConfig,
    ClipVisionConfig,
    TemporalConfig,
)
from bt_model.errors import InvalidValueError

CLIP = {
    "hidden_size": 1024, "image_size": 224, "patch_size": 14, "num_hidden_layers": 24,
    "num_attention_heads": 16, "intermediate_size": 4096, "projection_dim": 768,
}  # fmt: skip
EVA = {
    "model_type": "instructblip_vision_model", "hidden_size": 1408, "image_size": 224, "patch_size": 14,
    "num_hidden_layers": 40, "num_attention_heads": 16, "intermediate_size": 6144,
}  # fmt: skip


def test_the_published_towers_are_read_with_the_librarys_defaults() -> None:
    assert ClipVisionConfig.from_hf(CLIP) == CLIP_L14
    assert ClipVisionConfig.from_hf(EVA | {"projection_dim": 1024}) == EVA_G14
    assert ClipVisionConfig.from_hf(EVA) == replace(EVA_G14, projection_dim=1408)
    assert (CLIP_L14.num_patches, CLIP_L14.eps, CLIP_L14.act) == (256, 1e-5, "quick_gelu")
    assert (EVA_G14.num_patches, EVA_G14.eps, EVA_G14.act) == (256, 1e-6, "gelu")


def test_the_branch_has_an_epsilon_of_its_own_beside_eva_alone() -> None:
    assert (EVA_G14.spatial_eps, replace(CLIP_L14, eps=1e-3).spatial_eps) == (1e-5, 1e-3)


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("clip_vision_model", "clip"),
        ("eva_clip_vision_model", "eva"),
        ("blip_2_vision_model", "eva"),
        ("instructblip_vision_model", "eva"),
        ("instructblipvideo_vision_model", "eva"),
    ],
)
def test_the_family_follows_from_the_model_type(kind: str, family: str) -> None:
    assert ClipVisionConfig.from_hf(CLIP | {"model_type": kind}).family == family


def test_what_a_file_says_wins_over_the_defaults() -> None:
    config = ClipVisionConfig.from_hf(CLIP | {"hidden_act": "gelu", "layer_norm_eps": 1e-3})
    assert (config.act, config.eps) == ("gelu", 1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_size", 8192), ("patch_size", 224), ("intermediate_size", 1 << 20), ("projection_dim", 1)],
)
def test_a_size_at_its_bound_is_read(name: str, value: int) -> None:
    assert ClipVisionConfig.from_hf(CLIP | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("model_type", "siglip", "clip_vision_model, eva_clip_vision_model"),
        ("model_type", ["clip_vision_model"], "clip_vision_model, eva_clip_vision_model"),
        ("hidden_act", "relu", "quick_gelu, gelu"),
        ("hidden_size", 0, "1 to 1048576"),
        ("hidden_size", (1 << 20) + 1, "1 to 1048576"),
        ("num_hidden_layers", True, "1 to 1048576"),
        ("num_hidden_layers", 24.0, "1 to 1048576"),
        ("image_size", 8193, "1 to 8192"),
        ("patch_size", 225, "1 to 224"),
        ("num_attention_heads", 15, "what divides hidden_size, 1024"),
        ("layer_norm_eps", 0, "a number above 0"),
        ("layer_norm_eps", math.inf, "a number above 0"),
        ("layer_norm_eps", math.nan, "a number above 0"),
        ("layer_norm_eps", True, "a number above 0"),
        ("layer_norm_eps", "small", "a number above 0"),
    ],
)
def test_a_tower_that_is_not_computed_is_refused_by_its_field(name: str, value: object, allowed: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        ClipVisionConfig.from_hf(CLIP | {name: value})
    assert caught.value.message.startswith(f"{name} is {value!r}; allowed: {allowed}")


def test_a_text_tower_is_read_with_its_defaults_and_an_activation_is_checked() -> None:
    text = {
        "vocab_size": 49408, "max_position_embeddings": 77, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 8, "intermediate_size": 3072, "projection_dim": 640,
    }  # fmt: skip
    expected = ClipTextConfig(49408, 77, 768, 12, 8, 3072, 640, 1e-5, "quick_gelu")
    assert ClipTextConfig.from_hf(text) == expected
    given = ClipTextConfig.from_hf(text | {"layer_norm_eps": 1e-3, "hidden_act": "gelu"})
    assert given == replace(expected, eps=1e-3, act="gelu")
    with pytest.raises(InvalidValueError, match="hidden_act is 'relu'; allowed: quick_gelu, gelu"):
        ClipTextConfig.from_hf(text | {"hidden_act": "relu"})
    for name in text:
        with pytest.raises(InvalidValueError, match=f"{name} is 0; allowed: 1 to 1048576"):
            ClipTextConfig.from_hf(text | {name: 0})
    with pytest.raises(InvalidValueError, match="num_attention_heads is 7; allowed: what divides"):
        ClipTextConfig.from_hf(text | {"num_attention_heads": 7})
    with pytest.raises(InvalidValueError, match="layer_norm_eps is 0; allowed: a number above 0"):
        ClipTextConfig.from_hf(text | {"layer_norm_eps": 0})


def test_gates_exist_where_gates_combine() -> None:
    plain = BTAdapterConfig()
    assert (plain.middle_gate, plain.output_gate) == (1e2, 1e4)
    apart = BTAdapterConfig(interaction=False)
    assert (apart.middle_gate, apart.output_gate) == (None, 1e4)
    added = BTAdapterConfig(combination="add")
    assert (added.middle_gate, added.output_gate) == (None, None)


def test_a_temporal_model_is_named_by_its_kind_and_whether_it_is_open() -> None:
    assert TemporalConfig("stan").name == "stan"
    assert TemporalConfig("clip", is_open=True).name == "clip, open"
    kinds = ("clip", "bt_adapter", "stan", "joint_st", "separate_st", "st_adapter")
    assert [kind for kind in kinds if TemporalConfig(kind).has_branch] == ["bt_adapter", "stan"]
