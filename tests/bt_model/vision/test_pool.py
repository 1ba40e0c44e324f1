"""Poolings, against arithmetic written out frame by frame."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bt_model.errors import UnknownNameError
from bt_model.vision.bt_adapter import BranchState
from bt_model.vision.encoder import ChatFeatures
from bt_model.vision.pool import POOLINGS, TEMPORAL_TOKENS, pooling

B, T, P, D = 2, 4, 3, 2
PAGE = Path(__file__).parents[3] / "weights" / "README.md"


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def features(num_frames: int = T, *, branch_frames: int | None = T) -> ChatFeatures:
    trunk = random(B, num_frames, 1 + P, D, seed=0)
    if branch_frames is None:
        return ChatFeatures(trunk)
    return ChatFeatures(trunk, BranchState(random(B, branch_frames, P, D, seed=1), random(B, D, seed=2)))


def pool(name: str, seen: ChatFeatures) -> Tensor:
    return pooling(name).pool(seen)


def test_patches_cls_is_the_mean_of_trunk_and_branch_with_the_cls_last() -> None:
    seen = features()
    assert seen.branch is not None
    tokens = pool("patches_cls", seen)
    for b in range(B):
        for n in range(P):
            means = seen.trunk[b, :, 1 + n].mean(dim=0), seen.branch.patches[b, :, n].mean(dim=0)
            torch.testing.assert_close(tokens[b, n], (means[0] + means[1]) / 2)
        torch.testing.assert_close(tokens[b, P], (seen.trunk[b, :, 0].mean(dim=0) + seen.branch.cls[b]) / 2)


def test_without_a_branch_the_trunk_counts_whole() -> None:
    seen = features(branch_frames=None)
    mean = seen.trunk.mean(dim=1)
    assert torch.equal(pool("patches_cls", seen), torch.cat([mean[:, 1:], mean[:, :1]], dim=1))


def test_patches_leaves_the_cls_out() -> None:
    assert torch.equal(pool("patches", features()), pool("patches_cls", features())[:, :P])


def test_frames_cls_keeps_the_frames_apart() -> None:
    seen = features()
    assert seen.branch is not None
    tokens = pool("frames_cls", seen).view(B, T, P + 1, D)
    for t in range(T):
        patches = (seen.trunk[:, t, 1:] + seen.branch.patches[:, t]) / 2
        torch.testing.assert_close(tokens[:, t, :P], patches)
        torch.testing.assert_close(tokens[:, t, P], (seen.trunk[:, t, 0] + seen.branch.cls) / 2)


def test_frames_that_the_branch_merged_are_merged_in_the_trunk_too() -> None:
    seen = features(branch_frames=T // 2)
    assert seen.branch is not None
    tokens = pool("frames_cls", seen).view(B, T // 2, P + 1, D)
    pair = (seen.trunk[:, 2, 1:] + seen.trunk[:, 3, 1:]) / 2
    torch.testing.assert_close(tokens[:, 1, :P], (pair + seen.branch.patches[:, 1]) / 2)


@pytest.mark.parametrize("num_frames", [4, 100, 120])
def test_temporal_spatial_has_a_hundred_means_of_frames_then_means_over_frames(num_frames: int) -> None:
    seen = features(num_frames, branch_frames=None)
    tokens = pool("temporal_spatial", seen)
    assert tokens.shape == (B, TEMPORAL_TOKENS + P, D)
    told = min(num_frames, TEMPORAL_TOKENS)
    for t in (0, told - 1):
        torch.testing.assert_close(tokens[:, t], seen.trunk[:, t, 1:].mean(dim=1))
    assert not tokens[:, told:TEMPORAL_TOKENS].any()
    torch.testing.assert_close(tokens[:, TEMPORAL_TOKENS:], seen.trunk[:, :, 1:].mean(dim=1))


@pytest.mark.parametrize("name", POOLINGS)
def test_every_pooling_says_how_many_tokens_it_makes(name: str) -> None:
    frames = T if POOLINGS[name].is_per_frame else 1
    assert pool(name, features()).shape[1] == frames * POOLINGS[name].num_tokens(P)


@pytest.mark.parametrize("branch_frames", [T, T // 2, None])
def test_frames_are_the_patches_of_every_frame_without_its_cls(branch_frames: int | None) -> None:
    seen = features(branch_frames=branch_frames)
    with_cls = pool("frames_cls", seen).view(B, -1, P + 1, D)
    tokens = pool("frames", seen).view(B, -1, P, D)
    for t in range(branch_frames or T):
        assert torch.equal(tokens[:, t], with_cls[:, t, :P])


def test_the_weights_page_names_every_pooling() -> None:
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith("| `pooling`")]
    assert [name for name in POOLINGS if f"`{name}`" not in row] == []


def test_video_chatgpts_temporal_tokens_are_as_many_as_published() -> None:
    assert TEMPORAL_TOKENS == 100
    assert POOLINGS["temporal_spatial"].num_tokens(256) == 356


def test_an_unknown_pooling_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(
        UnknownNameError, match=f"^pooling is 'mean'; allowed: {', '.join(POOLINGS)}$"
    ) as caught:
        pooling("mean")
    assert caught.value.param == "pooling"
