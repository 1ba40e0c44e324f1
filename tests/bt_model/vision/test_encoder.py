"""Trunk and branch side by side (docs/published-models.md, "Retrieval and recognition", "Chat output")."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from bt_model.vision.encoder import VideoEncoder, encode_shared
from bt_model.vision.pool import patches_cls
from tests import tiny
from tests.tiny import D, K, P

B, T = 2, 4
L = tiny.VISION.num_layers


@pytest.fixture
def encoder() -> VideoEncoder:
    return tiny.encoder()


@pytest.fixture
def pixels() -> Tensor:
    return tiny.pixels(B, T)


def layer_outputs(encoder: VideoEncoder, pixels: Tensor) -> list[Tensor]:
    """Every trunk layer's output by the definition, frame by frame, each (B, T, 1 + P, D)."""
    outputs = [torch.empty(B, T, 1 + P, D) for _ in range(L)]
    for b, t in product(range(B), range(T)):
        x = encoder.tower.embed(pixels[b, t, None])
        for number, layer in enumerate(encoder.tower.layers):
            x = layer(x)
            outputs[number][b, t] = x[0]
    return outputs


def poison(module: nn.Module) -> None:
    for weight in module.parameters():
        weight.fill_(torch.nan)


def test_trunk_states_are_the_last_layers_of_each_frame_alone(encoder: VideoEncoder, pixels: Tensor) -> None:
    states = tiny.trunk_states(encoder, pixels)
    assert len(states) == K
    torch.testing.assert_close(states, layer_outputs(encoder, pixels)[-K:], rtol=1e-4, atol=1e-4)


def test_patches_of_a_picture_are_numbered_row_by_row() -> None:
    tower = tiny.tower()
    x = tiny.pixels(1, 1)[0]
    changed = x.clone()
    changed[:, :, 0:4, 8:12] += 1  # first row, last column of the 3 x 3 grid
    moved = (tower.embed(changed) - tower.embed(x)).abs().amax(dim=(0, 2))
    assert moved.nonzero().flatten().tolist() == [1 + 2]


def test_chat_is_half_trunk_and_half_branch_at_layer_l_minus_2(encoder: VideoEncoder, pixels: Tensor) -> None:
    outputs = layer_outputs(encoder, pixels)
    assert encoder.adapter is not None
    branch = encoder.adapter(outputs[-K:-1], encoder.tower.position)[-1]
    trunk = outputs[L - 2].mean(dim=1)
    expected = 0.5 * (trunk[:, 1:] + branch.patches.mean(dim=1)), 0.5 * (trunk[:, 0] + branch.cls)
    torch.testing.assert_close(chat(encoder, pixels), last_is_cls(*expected), rtol=1e-4, atol=1e-4)


def chat(encoder: VideoEncoder, pixels: Tensor) -> Tensor:
    return patches_cls(encoder.chat(pixels))


def last_is_cls(patches: Tensor, cls: Tensor) -> Tensor:
    return torch.cat([patches, cls[:, None]], dim=1)


@torch.no_grad()
def test_chat_computes_nothing_after_the_second_last_layers(encoder: VideoEncoder, pixels: Tensor) -> None:
    before = chat(encoder, pixels)
    tower, adapter = encoder.tower, encoder.adapter
    assert adapter is not None
    unused = (
        tower.layers[-1], tower.post_layernorm, tower.visual_projection,
        adapter.spatial[-1], adapter.temporal[-1],
    )  # fmt: skip
    for module in unused:
        poison(module)
    adapter.balance1.fill_(torch.nan)
    assert torch.equal(before, chat(encoder, pixels))


def test_without_a_branch_chat_is_the_frame_average_of_clip(encoder: VideoEncoder, pixels: Tensor) -> None:
    mean = layer_outputs(encoder, pixels)[L - 2].mean(dim=1)
    alone = chat(VideoEncoder(encoder.tower, None), pixels)
    torch.testing.assert_close(alone, last_is_cls(mean[:, 1:], mean[:, 0]), rtol=1e-4, atol=1e-4)


def test_a_batch_of_clips_equals_single_clips(encoder: VideoEncoder, pixels: Tensor) -> None:
    alone = [chat(encoder, pixels[b : b + 1]) for b in range(B)]
    torch.testing.assert_close(chat(encoder, pixels), torch.cat(alone))


def test_chat_from_cached_states_equals_chat(encoder: VideoEncoder, pixels: Tensor) -> None:
    cached = encoder.chat_from_trunk(tiny.trunk_states(encoder, pixels)[:-1])
    assert torch.equal(patches_cls(cached), chat(encoder, pixels))


def test_one_pass_gives_what_chat_and_retrieval_read_apart(encoder: VideoEncoder, pixels: Tensor) -> None:
    states = tiny.trunk_states(encoder, pixels)
    chat, retrieval = encoder.both_from_trunk(states)
    for both, alone in ((chat, encoder.chat(pixels)), (retrieval, encoder.features_from_trunk(states))):
        assert both.branch is not None
        assert alone.branch is not None
        torch.testing.assert_close(both.trunk, alone.trunk)
        torch.testing.assert_close(both.branch.patches, alone.branch.patches)


def test_upstream_compat_reaches_the_branch(pixels: Tensor) -> None:
    published, own = (chat(tiny.encoder(upstream_compat=flag), pixels) for flag in (True, False))
    assert (published - own).abs().max() > 1e-3


def test_encoders_of_one_tower_share_one_pass_and_lose_nothing(encoder: VideoEncoder, pixels: Tensor) -> None:
    passes: list[int] = []
    encoder.tower.layers[0].register_forward_hook(lambda *_: passes.append(1))
    whole = VideoEncoder(encoder.tower, tiny.adapter(replace(tiny.ADAPTER, num_layers=2)), skip=0)
    several = [encoder, VideoEncoder(encoder.tower, None), whole]
    shared = encode_shared(several, pixels)
    assert len(passes) == 1
    for one, features in zip(several, shared, strict=True):
        assert torch.equal(patches_cls(features), chat(one, pixels))


def test_without_skip_the_tower_is_read_to_its_end(encoder: VideoEncoder, pixels: Tensor) -> None:
    outputs = layer_outputs(encoder, pixels)
    adapter = encoder.adapter
    assert adapter is not None
    features = VideoEncoder(encoder.tower, adapter, skip=0).chat(pixels)
    assert features.branch is not None
    assert torch.equal(features.trunk, outputs[-1])
    expected = adapter(outputs[-K:], encoder.tower.position)[-1]
    torch.testing.assert_close(features.branch.cls, expected.cls, rtol=1e-4, atol=1e-4)


def test_retrieve_gates_the_videos_cls_into_each_frame(encoder: VideoEncoder, pixels: Tensor) -> None:
    outputs = layer_outputs(encoder, pixels)
    tower, adapter = encoder.tower, encoder.adapter
    assert adapter is not None
    branch = adapter(outputs[-K:], tower.position)[-1]
    gate = torch.sigmoid(adapter.balance1)
    expected = torch.zeros(B, tiny.VISION.projection_dim)
    for b, t in product(range(B), range(T)):
        mixed = gate * outputs[-1][b, t, 0] + (1 - gate) * branch.cls[b]
        expected[b] += tower.visual_projection(tower.post_layernorm(mixed)) / T
    torch.testing.assert_close(tiny.retrieve(encoder, pixels), expected, rtol=1e-4, atol=1e-4)


def test_without_a_branch_retrieve_is_the_average_of_clips_image_embeddings(
    encoder: VideoEncoder, pixels: Tensor
) -> None:
    tower = encoder.tower
    alone = torch.stack([tower.project(tower(clip, [L])[0][:, 0]).mean(dim=0) for clip in pixels])
    torch.testing.assert_close(tiny.retrieve(VideoEncoder(tower, None), pixels), alone)
