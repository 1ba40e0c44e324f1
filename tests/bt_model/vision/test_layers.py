"""Each layer against its slow definition by loops."""

from itertools import product

import pytest
import torch

from bt_model.vision.attention import ClipLayer, MultiHeadAttention, quick_gelu
from bt_model.vision.bt_adapter import BranchState, SpatialLayer, TemporalLayer
from tests.bt_model.vision.packed import noise
from tests.tiny import D, P, wake

B, T, H = 2, 5, 4


@pytest.fixture
def temporal() -> TemporalLayer:
    return wake(TemporalLayer(D, H, 1e-5))


@pytest.fixture
def spatial() -> SpatialLayer:
    return wake(SpatialLayer(D, H, 48, 1e-5))


def test_attention_equals_softmax_over_each_head() -> None:
    attn = wake(MultiHeadAttention(D, H))
    x = noise(B, 3, 7, D)
    expected = torch.zeros_like(x)
    for b, t in product(range(B), range(3)):
        q, k, v = attn.q_proj(x[b, t]), attn.k_proj(x[b, t]), attn.v_proj(x[b, t])
        heads = [slice(h * D // H, (h + 1) * D // H) for h in range(H)]
        mixed = [torch.softmax(q[:, h] @ k[:, h].T * (D // H) ** -0.5, dim=1) @ v[:, h] for h in heads]
        expected[b, t] = attn.out_proj(torch.cat(mixed, dim=1))
    torch.testing.assert_close(attn(x), expected)


def test_a_clip_layer_is_two_residual_steps_behind_their_norms() -> None:
    layer = wake(ClipLayer(D, H, 48, 1e-5))
    x = noise(B, 7, D)
    middle = x + layer.self_attn(layer.layer_norm1(x))
    hidden = layer.mlp.fc1(layer.layer_norm2(middle))
    torch.testing.assert_close(layer(x), middle + layer.mlp.fc2(hidden * torch.sigmoid(1.702 * hidden)))


def test_quick_gelu_is_not_gelu() -> None:
    x = noise(100)
    assert (quick_gelu(x) - torch.nn.functional.gelu(x)).abs().max() > 1e-3


def test_the_temporal_layer_equals_its_slow_definition(temporal: TemporalLayer) -> None:
    x = noise(B, T, P, D)
    expected = x.clone()
    for b, p in product(range(B), range(P)):
        track = temporal.layer_norm1(x[b : b + 1, :, p])  # (1, T, D)
        expected[b, :, p] += temporal.temporal_fc(temporal.self_attn(track))[0]
    torch.testing.assert_close(temporal(x), expected)


def test_the_temporal_layer_never_mixes_patches_or_clips(temporal: TemporalLayer) -> None:
    x = noise(B, T, P, D)
    bumped = x.clone()
    bumped[1, 2, 5] += 1
    moved = (temporal(bumped) - temporal(x)).abs().amax(dim=(1, 3))  # (B, P)
    assert moved.nonzero().tolist() == [[1, 5]]


def test_the_temporal_layer_mixes_all_frames(temporal: TemporalLayer) -> None:
    x = noise(B, T, P, D)
    bumped = x.clone()
    bumped[1, 2, 5] += noise(D, seed=9)
    assert ((temporal(bumped) - temporal(x))[1, :, 5].abs().amax(dim=1) > 1e-4).all()


def test_the_spatial_layer_equals_its_slow_definition(spatial: SpatialLayer) -> None:
    x, cls = noise(B, T, P, D), noise(B, D, seed=1)
    out = spatial.run(BranchState(x, cls))
    for b in range(B):
        results = [
            spatial.self_attn(spatial.layer_norm1(torch.cat([cls[b, None], x[b, t]]))[None])[0]
            for t in range(T)
        ]
        patches = x[b] + torch.stack([r[1:] for r in results])
        own = cls[b] + torch.stack([r[0] for r in results]).mean(0)
        torch.testing.assert_close(out.patches[b], patches + spatial.mlp(spatial.layer_norm2(patches)))
        torch.testing.assert_close(out.cls[b], own + spatial.mlp(spatial.layer_norm2(own)))


def test_the_spatial_layer_never_mixes_frames_or_clips(spatial: SpatialLayer) -> None:
    x, cls = noise(B, T, P, D), noise(B, D, seed=1)
    bumped = x.clone()
    bumped[1, 2, 5] += noise(D, seed=9)
    before, after = (
        spatial.run(BranchState(x, cls)),
        spatial.run(BranchState(bumped, cls)),
    )
    moved = (after.patches - before.patches).abs().amax(dim=(2, 3))  # (B, T)
    assert moved.nonzero().tolist() == [[1, 2]]


def test_the_spatial_layer_tells_the_cls_of_its_own_clip_alone(spatial: SpatialLayer) -> None:
    x, cls = noise(B, T, P, D), noise(B, D, seed=1)
    bumped = x.clone()
    bumped[1, 2, 5] += noise(D, seed=9)
    moved = spatial.run(BranchState(bumped, cls)).cls - spatial.run(BranchState(x, cls)).cls
    assert moved.abs().amax(dim=1).nonzero().flatten().tolist() == [1]
