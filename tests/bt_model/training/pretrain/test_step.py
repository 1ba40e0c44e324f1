"""The step as a module: the losses that it gives, what it leaves alone, what it draws."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.config import BTAdapterConfig, TemporalConfig
from bt_model.training.data.sampling import Masks
from bt_model.training.objectives.contrastive import LossWeights, contrastive
from bt_model.training.pretrain.step import PretrainBatch, PretrainStep
from bt_model.video.transform import normalise_retrieval
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import hidden_states
from bt_model.vision.encoder import TemporalEncoder
from tests import tiny
from tests.bt_model.training.ranks import B, T, fresh_step, whole_batch


def total(step: PretrainStep, batch: PretrainBatch) -> torch.Tensor:
    return torch.stack(list(step(batch).values())).sum()


def stored(batch: PretrainBatch, encoder: TemporalEncoder, numbers: Sequence[int]) -> PretrainBatch:
    """The batch with these states of the trunk in the place of its frames."""
    pixels = torch.stack([normalise_retrieval(clip) for clip in batch.clips])
    return replace(batch, clips=torch.stack(list(hidden_states(encoder.tower, pixels, numbers).values()), 1))


@pytest.mark.parametrize("count", [1, tiny.K])
def test_stored_states_give_the_losses_of_frames(count: int) -> None:
    base, batch = fresh_step(), whole_batch()
    numbers = base.encoder.reads[:count]  # from the first, the tower goes on by itself
    step = PretrainStep(base.encoder, base.text, base.head, base.weights, stored=numbers)
    found = step(stored(batch, base.encoder, numbers))
    assert set(found) == {"vtc", "mbta", "mbca"}
    torch.testing.assert_close(found, base(batch))


@pytest.mark.parametrize("merged", [False, True])
def test_equal_captions_match_each_other_if_merged(merged: bool) -> None:
    base, batch = fresh_step(), whole_batch()
    pairs = torch.arange(B) // 2
    batch = replace(batch, captions=replace(batch.captions, group=pairs))
    step = PretrainStep(base.encoder, base.text, base.head, base.weights, merged=merged)
    states = list(stored(batch, base.encoder, base.encoder.reads).clips.unbind(1))
    features = base.encoder.features_from_trunk(states, visible=batch.masks.visible)
    video = base.encoder.embed_video(features.trunk, features.branch)
    group = pairs if merged else torch.arange(B)
    torch.testing.assert_close(step(batch)["vtc"], contrastive(video, base.text(batch.captions.ids), group))


def test_training_moves_the_branch_and_the_head_and_nothing_else() -> None:
    step = fresh_step()
    before = {name: fingerprint(child.state_dict()) for name, child in parts(step).items()}
    optimiser = torch.optim.AdamW(p for p in step.parameters() if p.requires_grad)
    for _ in range(2):
        total(step, whole_batch()).backward()
        optimiser.step()
    after = {name: fingerprint(child.state_dict()) for name, child in parts(step).items()}
    assert {name for name in before if before[name] != after[name]} == {"adapter", "extra_proj"}


def parts(step: PretrainStep) -> dict[str, torch.nn.Module]:
    return {"tower": step.encoder.tower, "text": step.text, **step.learning()}


def test_stochastic_depth_is_drawn_from_the_global_source_alone() -> None:
    config = BTAdapterConfig(tiny.K, tiny.MAX_FRAMES, 1.0, 1.0, drop_path=0.9)
    base, found = fresh_step(), list[float]()
    encoder = build_encoder(TemporalConfig(branch=config), base.encoder.tower)
    for module in encoder.trainable().values():
        tiny.wake(module, seed=3)
    step = PretrainStep(encoder, base.text, base.head, base.weights).train()
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(total(step, whole_batch()).item())
    assert found[0] == found[1] != found[2]


def test_a_model_without_a_branch_learns_from_the_contrast_alone() -> None:
    base, batch = fresh_step(), whole_batch()
    encoder = build_encoder(TemporalConfig("separate_st", max_frames=T), base.encoder.tower)
    step = PretrainStep(encoder, base.text, None, LossWeights(1.0, 0.0, 0.0))
    losses = step(replace(batch, masks=Masks(None, batch.masks.pairs)))
    assert losses["vtc"] > 0
    assert losses["mbta"] == losses["mbca"] == 0
    assert set(step.learning()) == set(encoder.trainable())
