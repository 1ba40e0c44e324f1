"""What all temporal models have in common: what they read, where they start, what training may change."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.config import TEMPORAL_KINDS, TemporalConfig
from bt_model.errors import InvalidValueError
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower, hidden_states
from bt_model.vision.encoder import TemporalEncoder, VideoEncoder, encode_shared
from bt_model.vision.pool import POOLINGS, patches_cls
from tests import tiny
from tests.tiny import FROZEN, OPEN, TEMPORAL, TRAINED, D, K, P

B, T = 2, 4
L = tiny.VISION.num_layers
WITH_TIME = ["bt_adapter", "stan", "joint_st", "separate_st", "separate_st_2"]
WITH_ATTENTION = ["bt_adapter", "stan", "separate_st", "separate_st_2"]
CLIP_AT_FIRST = [name for name in TEMPORAL if name.startswith(("clip", "separate_st", "st_adapter"))]
READS = {
    "clip": (range(L, L + 1), range(L - 1, L)),
    "bt_adapter": (range(L - K + 1, L + 1), range(L - K + 1, L)),
    "stan": (range(L - K + 1, L + 1), range(L - K + 1, L)),
    "joint_st": (range(1), range(1)),
    "separate_st": (range(1), range(1)),
    "separate_st_2": (range(L - 2, L - 1), range(L - 2, L - 1)),
    "st_adapter": (range(1), range(1)),
    "st_adapter_2": (range(L - 2, L - 1), range(L - 2, L - 1)),
    **{name: (range(1), range(1)) for name in OPEN},
}


def frame_mean(tower: ClipVisionTower) -> VideoEncoder:
    return VideoEncoder(tower, None)


def test_every_kind_is_tried() -> None:
    assert {config.kind for config in FROZEN.values()} == set(TEMPORAL_KINDS)


@pytest.mark.parametrize("name", TEMPORAL)
def test_a_model_says_which_states_it_starts_from(name: str) -> None:
    model = tiny.fresh(TEMPORAL[name])
    assert (model.reads, model.chat_reads) == READS[name]


@pytest.mark.parametrize("name", TEMPORAL)
def test_a_model_is_what_it_was_built_as(name: str) -> None:
    config, built = TEMPORAL[name], tiny.fresh(TEMPORAL[name]).config
    assert (built.kind, built.is_open, built.num_layers) == (config.kind, config.is_open, config.num_layers)


def test_hidden_states_are_numbered_from_the_embedded_patches() -> None:
    tower, pixels = tiny.tower(), tiny.pixels(B, T)
    states = hidden_states(tower, pixels, {3, 0, L})
    assert list(states) == [0, 3, L]
    for b in range(B):
        x = tower.embed(pixels[b])
        torch.testing.assert_close(states[0][b], x)
        for number, layer in enumerate(tower.layers, start=1):
            x = layer(x)
            if number in states:
                torch.testing.assert_close(states[number][b], x)


def test_hidden_states_carry_no_gradient_even_of_a_tower_that_learns() -> None:
    tower = tiny.tower().requires_grad_(requires_grad=True)
    states = tiny.trunk_states(VideoEncoder(tower, tiny.adapter()), tiny.pixels(1, T))
    assert not [x for x in states if x.requires_grad]


@pytest.mark.parametrize("name", TEMPORAL)
def test_from_cached_states_is_from_pixels(name: str) -> None:
    model, pixels = tiny.trained(TEMPORAL[name]), tiny.pixels(B, T)
    cached = hidden_states(model.tower, pixels, range(L + 1))
    retrieved = model.retrieve_from_trunk([cached[number] for number in model.reads])
    assert torch.equal(retrieved, tiny.retrieve(model, pixels))
    chat = model.chat_from_trunk([cached[number] for number in model.chat_reads])
    assert torch.equal(patches_cls(chat), patches_cls(model.chat(pixels)))


def test_all_models_of_one_tower_share_one_pass() -> None:
    tower, pixels = tiny.tower(), tiny.pixels(B, T)
    models = [tiny.trained(config, tower) for config in TEMPORAL.values()]
    passes: list[int] = []
    tower.register_forward_hook(lambda *_: passes.append(1))
    shared = encode_shared(models, pixels)
    assert len(passes) == 1
    for model, features in zip(models, shared, strict=True):
        assert torch.equal(patches_cls(features), patches_cls(model.chat(pixels)))


@pytest.mark.parametrize("name", TEMPORAL)
def test_clips_of_a_batch_do_not_mix(name: str) -> None:
    model, pixels = tiny.trained(TEMPORAL[name]), tiny.pixels(B, T)
    changed = torch.cat([pixels[:1], tiny.pixels(1, T, seed=9)])
    for run in (lambda x: tiny.retrieve(model, x), lambda x: patches_cls(model.chat(x))):
        before, after = run(pixels), run(changed)
        assert torch.equal(before[0], after[0])
        assert (before[1] - after[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", TEMPORAL)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_takes_every_kind(name: str, pooling: str) -> None:
    features = tiny.trained(TEMPORAL[name]).chat(tiny.pixels(B, T))
    per_clip = T if POOLINGS[pooling].is_per_frame else 1
    tokens = POOLINGS[pooling].pool(features)
    assert tokens.shape == (B, per_clip * POOLINGS[pooling].num_tokens(P), D)
    assert tokens.isfinite().all()


@pytest.mark.parametrize("name", CLIP_AT_FIRST)
def test_the_kinds_that_start_as_clip_do_so_to_the_bit(name: str) -> None:
    tower, pixels = tiny.tower(), tiny.pixels(B, T)
    model, plain = tiny.fresh(TEMPORAL[name], tower), frame_mean(tower)
    assert torch.equal(tiny.retrieve(model, pixels), tiny.retrieve(plain, pixels))
    assert torch.equal(patches_cls(model.chat(pixels)), patches_cls(plain.chat(pixels)))


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_two_random_temporal_attentions_start_alike_to_the_bit(name: str) -> None:
    tower, pixels = tiny.tower(), tiny.pixels(B, T)
    one, other = (tiny.fresh(FROZEN[name], tower, seed=seed) for seed in (1, 2))
    times = {n: w for n, w in one.trainable()["adapter"].state_dict().items() if "time_embed" in n}
    other.trainable()["adapter"].load_state_dict(times, strict=False)
    assert fingerprint(one.trainable()["adapter"].state_dict()) != fingerprint(
        other.trainable()["adapter"].state_dict()
    )
    assert torch.equal(tiny.retrieve(one, pixels), tiny.retrieve(other, pixels))
    assert torch.equal(patches_cls(one.chat(pixels)), patches_cls(other.chat(pixels)))


@torch.no_grad()
def moved_by_reversal(model: TemporalEncoder) -> float:
    """Relative to the feature's size."""
    pixels = tiny.pixels(B, T)
    forward, backward = tiny.retrieve(model, pixels), tiny.retrieve(model, pixels.flip(1))
    return float((forward - backward).abs().max() / forward.abs().max())


@pytest.mark.parametrize("make", [tiny.fresh, tiny.trained])
@pytest.mark.parametrize("name", WITH_TIME)
def test_without_times_a_reversed_clip_is_the_same(name: str, make: Any) -> None:
    model = make(FROZEN[name])
    table = model.trainable()["adapter"].get_submodule("time_embed")
    assert isinstance(table, nn.Embedding)
    with torch.no_grad():
        table.weight.zero_()
    assert moved_by_reversal(model) < 1e-6


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_model_sees_the_order_of_frames(name: str) -> None:
    if TEMPORAL[name].kind != "clip":
        assert moved_by_reversal(tiny.trained(TEMPORAL[name])) > 1e-3
    else:
        assert moved_by_reversal(tiny.trained(TEMPORAL[name])) < 1e-6


@pytest.mark.parametrize("name", WITH_TIME)
def test_time_std_scales_the_times_alone(name: str) -> None:
    one, other = tiny.fresh(FROZEN[name]), tiny.fresh(replace(FROZEN[name], time_std=0.5))
    theirs = other.trainable()["adapter"].state_dict()
    for key, weight in one.trainable()["adapter"].state_dict().items():
        expected = 0.5 * weight if key == "time_embed.weight" else weight
        assert torch.equal(theirs[key], expected)


def test_stan_starts_from_the_class_embedding_and_adds() -> None:
    tower = tiny.tower()
    stan = tiny.fresh(FROZEN["stan"], tower)
    assert isinstance(stan, VideoEncoder)
    assert stan.adapter is not None
    twin = build_encoder(TemporalConfig("bt_adapter", replace(tiny.ADAPTER, combination="add")), tower)
    assert isinstance(twin, VideoEncoder)
    assert twin.adapter is not None
    with torch.no_grad():
        twin.adapter.cls_token.copy_(tower.class_embedding)
    state = {n: w for n, w in stan.adapter.state_dict().items() if n != "cls_token"}
    twin.adapter.load_state_dict(state, strict=False)
    pixels = tiny.pixels(B, T)
    assert torch.equal(tiny.retrieve(stan, pixels), tiny.retrieve(twin, pixels))
    assert "cls_token" not in dict(stan.adapter.named_parameters())


@pytest.mark.parametrize("name", ["bt_adapter", "separate_st", "st_adapter", "joint_st", "stan"])
@pytest.mark.parametrize("is_open", [False, True])
def test_an_eva_tower_carries_every_kind(name: str, is_open: bool) -> None:
    eva = replace(tiny.VISION, family="eva", act="gelu", eps=1e-6)
    tower = tiny.wake(ClipVisionTower(eva))
    model = tiny.trained(replace(FROZEN[name], is_open=is_open), tower)
    assert moved_by_reversal(model) > 1e-3
    assert model.chat(tiny.pixels(B, T)).trunk.isfinite().all()


@pytest.mark.parametrize("config", [
    tiny.temporal_config("separate_st", num_layers=L + 1),
    TemporalConfig("bt_adapter", replace(tiny.ADAPTER, num_layers=L + 1)),
])  # fmt: skip
def test_more_layers_than_the_tower_has_are_refused(config: TemporalConfig) -> None:
    with pytest.raises(InvalidValueError, match=f"num_layers is {L + 1}; allowed: 1 to {L}"):
        tiny.fresh(config)


@pytest.mark.parametrize("config", [
    tiny.temporal_config("separate_st", num_layers=1),
    TemporalConfig("bt_adapter", replace(tiny.ADAPTER, num_layers=1)),
])  # fmt: skip
def test_a_model_that_the_chat_path_leaves_out_cannot_chat(config: TemporalConfig) -> None:
    model = tiny.fresh(config)
    assert tiny.retrieve(model, tiny.pixels(1, T)).isfinite().all()
    with pytest.raises(InvalidValueError, match="num_layers is 1; allowed for chat: more than the 1"):
        model.chat(tiny.pixels(1, T))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("kind", "lstm", ", ".join(TEMPORAL_KINDS)),
        ("num_layers", 0, "1 or more"),
        ("max_frames", 0, "1 or more"),
        ("bottleneck", 0, "1 or more"),
        ("time_std", -1.0, "0 or more"),
    ],
)
def test_a_description_with_a_wrong_value_is_refused(name: str, value: object, allowed: str) -> None:
    with pytest.raises(InvalidValueError, match=f"{name} is {value!r}; allowed: {allowed}") as caught:
        TemporalConfig(**{name: value})  # pyright: ignore[reportArgumentType] - wrong on purpose
    assert caught.value.param == name
