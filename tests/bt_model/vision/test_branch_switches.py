"""The branch's switches: combination, temporal projection, interaction and stochastic depth."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from bt_model.config import BTAdapterConfig
from bt_model.errors import InvalidValueError
from bt_model.vision.bt_adapter import BranchState, BTAdapter, SpatialLayer, TemporalLayer
from bt_model.vision.encoder import VideoEncoder
from tests import tiny
from tests.bt_model.vision.packed import noise, packed_branch
from tests.tiny import D, K, P, wake

B, T, H, RATE = 2, 4, 4, 0.5
SWITCHES: list[dict[str, Any]] = [
    {"combination": "add"},
    {"combination": "concat"},
    {"projection": "none"},
    {"projection": "random"},
    {"interaction": False},
    {"interaction": False, "combination": "concat"},
]


def trunk() -> list[Tensor]:
    return [noise(B, T, 1 + P, D, seed=10 * k) for k in range(K)]


def position() -> Tensor:
    return noise(1 + P, D, seed=77)


def branch(**switches: Any) -> BTAdapter:
    return tiny.adapter(replace(tiny.ADAPTER, **switches))


def fresh(seed: int = 0, **switches: Any) -> BTAdapter:
    torch.manual_seed(seed)
    adapter = BTAdapter(tiny.VISION, replace(tiny.ADAPTER, **switches))
    adapter.init_from_trunk(tiny.tower())
    return adapter.requires_grad_(requires_grad=False)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_switch_equals_the_packed_definition(switches: dict[str, Any]) -> None:
    adapter, states = branch(**switches), trunk()
    out = adapter(states, position())[-1]
    for b in range(B):
        patches, cls = packed_branch(adapter, [x[b] for x in states], position(), T, range(P))
        torch.testing.assert_close(out.patches[b], patches, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(out.cls[b], cls, rtol=1e-4, atol=1e-4)


def test_without_interaction_the_trunk_speaks_once() -> None:
    adapter, states = branch(interaction=False), trunk()
    changed = [states[0], *(x + 1 for x in states[1:])]
    before, after = adapter(states, position())[-1], adapter(changed, position())[-1]
    assert torch.equal(before.patches, after.patches)
    assert not [name for name in adapter.state_dict() if name.startswith(("balance2", "middle"))]


def test_addition_has_no_gates_whatever_the_scales() -> None:
    names = branch(combination="add").state_dict()
    assert not [name for name in names if "balance" in name or "concat" in name]
    summed = branch(middle_scale=None, output_scale=None)(trunk(), position())[-1]
    torch.testing.assert_close(branch(combination="add")(trunk(), position())[-1].cls, summed.cls)


def test_concatenation_starts_as_the_plain_average() -> None:
    concat, gated = fresh(combination="concat"), fresh(middle_scale=1.0, output_scale=1.0)
    gated.time_embed.load_state_dict(concat.time_embed.state_dict())
    a, b = concat(trunk(), position())[-1], gated(trunk(), position())[-1]  # a fresh gate is one half
    torch.testing.assert_close(a.patches, b.patches, rtol=1e-4, atol=1e-4)
    cls, video = noise(B, T, D), noise(B, D, seed=1)
    torch.testing.assert_close(concat.combine(cls, video), (cls + video[:, None]) / 2)


@pytest.mark.parametrize("combination", ["gate", "add", "concat"])
def test_the_retrieval_output_is_combined_frame_by_frame(combination: str) -> None:
    encoder = VideoEncoder(tiny.tower(), branch(combination=combination))
    adapter, tower = encoder.adapter, encoder.tower
    assert adapter is not None
    states = tiny.trunk_states(encoder, tiny.pixels(B, T))
    out = adapter(states, tower.position)[-1]
    expected = torch.zeros(B, tiny.VISION.projection_dim)
    for b, t in product(range(B), range(T)):
        cls, video = states[-1][b, t, 0], out.cls[b]
        if combination == "gate":
            mixed = torch.sigmoid(adapter.balance1) * (cls - video) + video
        elif combination == "add":
            mixed = cls + video
        else:
            mixed = adapter.output_concat.weight @ torch.cat([cls, video]) + adapter.output_concat.bias
        expected[b] += tower.project(mixed) / T
    torch.testing.assert_close(encoder.retrieve_from_trunk(states), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("projection", "is_blind"), [("zero", True), ("random", False), ("none", False)])
def test_only_a_zero_projection_starts_without_temporal_attention(projection: str, is_blind: bool) -> None:
    one, other = fresh(1, projection=projection), fresh(2, projection=projection)
    other.time_embed.load_state_dict(one.time_embed.state_dict())
    same = torch.equal(one(trunk(), position())[-1].patches, other(trunk(), position())[-1].patches)
    assert same == is_blind


def test_drop_path_rates_rise_from_zero_to_the_last_layers() -> None:
    adapter = branch(drop_path=0.1)
    for layers in (adapter.temporal, adapter.spatial):
        rates = [float(layer.drop_path) for layer in layers]  # pyright: ignore[reportArgumentType] - a float
        assert rates == pytest.approx([0.0, 0.05, 0.1])


def test_without_training_nothing_is_dropped() -> None:
    assert torch.equal(
        branch(drop_path=0.9)(trunk(), position())[-1].cls, branch()(trunk(), position())[-1].cls
    )


def test_training_drops_as_the_generator_says() -> None:
    adapter = branch(drop_path=RATE).train()

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return adapter(trunk(), position())[-1].patches

    assert torch.equal(run(3), run(3))
    assert (run(3) - run(4)).abs().max() > 1e-3


def kept_share(delta: Tensor, whole: Tensor) -> Tensor:
    """How much of what a layer adds is there, by its two leading axes; each share holds for all of it."""
    shares = (delta / whole).flatten(2)
    torch.testing.assert_close(shares, shares[..., :1].expand_as(shares), rtol=1e-2, atol=1e-2)
    return shares[..., 0].round(decimals=2)


def both_modes(layer: torch.nn.Module, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What is added in training and otherwise."""
    torch.manual_seed(0)
    layer.train()
    trained = run()
    layer.eval()
    return trained, run()


def test_a_temporal_layer_drops_whole_patches_and_scales_up_the_rest() -> None:
    layer = wake(TemporalLayer(D, H, 1e-5, "none", RATE))
    x = noise(B, T, P, D).double()
    layer = layer.double()
    delta, whole = both_modes(layer, lambda: (layer(x) - x).transpose(1, 2))
    shares = kept_share(delta, whole)
    assert set(shares.flatten().tolist()) == {0.0, 1 / (1 - RATE)}
    assert not torch.equal(shares[0], shares[1])


def test_a_spatial_layer_drops_whole_frames_and_scales_up_the_rest() -> None:
    layer = wake(SpatialLayer(D, H, 48, 1e-5, drop_path=RATE)).double()
    for weight in layer.mlp.parameters():
        weight.zero_()
    x, cls = noise(B, 3 * T, P, D).double(), noise(B, D, seed=1).double()
    delta, whole = both_modes(layer, lambda: layer.run(BranchState(x, cls)).patches - x)
    shares = kept_share(delta, whole)
    assert set(shares.flatten().tolist()) == {0.0, 1 / (1 - RATE)}
    assert not torch.equal(shares[0], shares[1])


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("num_layers", 0, "1 or more"),
        ("max_frames", 0, "1 or more"),
        ("combination", "mean", "gate, add, concat"),
        ("projection", "one", "zero, random, none"),
        ("drop_path", 1.0, "0 or more, below 1"),
    ],
)
def test_a_branch_of_a_wrong_value_is_refused(name: str, value: object, allowed: str) -> None:
    with pytest.raises(InvalidValueError, match=f"{name} is {value!r}; allowed: {allowed}") as caught:
        BTAdapterConfig(**{name: value})  # pyright: ignore[reportArgumentType] - wrong on purpose
    assert caught.value.param == name
