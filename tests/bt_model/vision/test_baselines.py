"""Models inside the trunk against their definitions, by loops over clips, frames, patches and layers."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from bt_model.errors import InvalidValueError
from bt_model.vision.baselines import InTrunkEncoder, JointST, SeparateST, STAdapter, TimeConvolution
from bt_model.vision.bt_adapter import TemporalLayer
from bt_model.vision.clip import ClipVisionTower
from tests import tiny
from tests.tiny import D, P

B, T = 2, 4
L = tiny.VISION.num_layers
Slow = Callable[[Tensor, Sequence[nn.Module], nn.Module], Tensor]
NAMES = [name for name in tiny.TEMPORAL if name.startswith(("joint", "separate", "st_adapter"))]


def frames_apart(layer: nn.Module, x: Tensor) -> Tensor:
    """A trunk layer on each frame alone."""
    return torch.cat([layer(frame[None]) for frame in x])


def joint_st(x: Tensor, layers: Sequence[nn.Module], parts: nn.Module) -> Tensor:
    """One clip (T, 1 + P, D): one sequence of all tokens."""
    assert isinstance(parts, JointST)
    x = x.clone()
    for t, n in product(range(T), range(P)):
        x[t, 1 + n] += parts.time_embed.weight[t]
    sequence = torch.cat(list(x))
    for layer in layers:
        sequence = layer(sequence[None])[0]
    return torch.stack(sequence.split(1 + P))


def separate_st(x: Tensor, layers: Sequence[nn.Module], parts: nn.Module) -> Tensor:
    """One clip (T, 1 + P, D): each patch along time, then each frame."""
    assert isinstance(parts, SeparateST)
    for temporal, layer in zip(parts.temporal, layers, strict=False):
        assert isinstance(temporal, TemporalLayer)
        mixed = x.clone()
        for n in range(P):
            seen = torch.stack([x[t, 1 + n] + parts.time_embed.weight[t] for t in range(T)])
            answers = temporal.self_attn(temporal.layer_norm1(seen)[None])[0]
            mixed[:, 1 + n] += temporal.temporal_fc(answers)
        x = frames_apart(layer, mixed)
    return x


def st_adapter(x: Tensor, layers: Sequence[nn.Module], parts: nn.Module) -> Tensor:
    """One clip (T, 1 + P, D): each narrow channel of each patch along time, then each frame."""
    assert isinstance(parts, STAdapter)
    for adapter, layer in zip(parts.adapters, layers, strict=False):
        assert isinstance(adapter, TimeConvolution)
        kernel, bias = adapter.conv.weight[:, 0], adapter.conv.bias  # (C, 3), (C)
        assert bias is not None
        mixed = x.clone()
        for t, n in product(range(T), range(P)):
            around = [
                kernel[:, j] * adapter.down(x[t + j - 1, 1 + n]) for j in range(3) if 0 <= t + j - 1 < T
            ]
            mixed[t, 1 + n] += adapter.up(torch.stack(around).sum(0) + bias)
        x = frames_apart(layer, mixed)
    return x


SLOW: dict[str, Slow] = {"joint_st": joint_st, "separate_st": separate_st, "st_adapter": st_adapter}


def defined(model: InTrunkEncoder, tower: ClipVisionTower, pixels: Tensor, stop: int) -> Tensor:
    """Hidden state `stop` by the definition, (B, T, 1 + P, D)."""
    layers = list((model.own or tower).layers)
    first = L - model.num_layers
    clips: list[Tensor] = []
    for clip in pixels:
        x = torch.cat([tower.embed(frame[None]) for frame in clip])
        for layer in layers[:first]:
            x = frames_apart(layer, x)
        clips.append(SLOW[model.config.kind](x, layers[first:stop], model.adapter))
    return torch.stack(clips)


def pair(name: str) -> tuple[InTrunkEncoder, ClipVisionTower]:
    tower = tiny.tower()
    model = tiny.trained(tiny.TEMPORAL[name], tower)
    assert isinstance(model, InTrunkEncoder)
    return model, tower


@pytest.mark.parametrize("name", NAMES)
def test_the_chat_path_equals_the_definition_up_to_its_last_layer_but_one(name: str) -> None:
    model, tower = pair(name)
    pixels = tiny.pixels(B, T)
    features = model.chat(pixels)
    assert features.branch is None
    torch.testing.assert_close(features.trunk, defined(model, tower, pixels, L - 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_retrieval_is_the_mean_of_projected_frame_cls(name: str) -> None:
    model, tower = pair(name)
    pixels = tiny.pixels(B, T)
    last, head = defined(model, tower, pixels, L), model.own or tower
    expected = torch.zeros(B, tiny.VISION.projection_dim)
    for b, t in product(range(B), range(T)):
        expected[b] += head.visual_projection(head.post_layernorm(last[b, t, 0])) / T
    torch.testing.assert_close(tiny.retrieve(model, pixels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["joint_st", "separate_st"])
def test_more_frames_than_times_are_refused(name: str) -> None:
    model, _ = pair(name)
    too_many = tiny.MAX_FRAMES + 1
    assert model.max_frames == tiny.MAX_FRAMES
    with pytest.raises(InvalidValueError, match=f"num_frames is {too_many}; allowed: 1 to 8") as caught:
        tiny.retrieve(model, tiny.pixels(1, too_many))
    assert caught.value.param == "num_frames"


def test_an_adapter_takes_any_number_of_frames() -> None:
    model, _ = pair("st_adapter")
    assert model.max_frames is None
    assert model.chat(tiny.pixels(1, 2 * tiny.MAX_FRAMES + 1)).trunk.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_is_refused(name: str) -> None:
    model, _ = pair(name)
    kind = model.config.kind
    states = [torch.zeros(1, T, 1 + P, D)]
    with pytest.raises(InvalidValueError, match=f"visible is a mask and the model {kind}; allowed with it"):
        model.features_from_trunk(states, visible=torch.tensor([[0]]))
