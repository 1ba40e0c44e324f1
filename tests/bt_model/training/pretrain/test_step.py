"""The step as a module: the losses that it gives, what it leaves alone, what it draws."""

from dataclasses import replace

import pytest
import torch

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.config import BTAdapterConfig, TemporalConfig
from bt_model.training.config import LossWeights
from bt_model.training.objectives.alignment import pretrain_loss
from bt_model.training.objectives.captioner import Captions
from bt_model.training.pretrain.step import ClipBatch, PretrainStep
from bt_model.video.transform import normalise_retrieval
from bt_model.vision.build import build_encoder
from tests import tiny
from tests.bt_model.training.ranks import B, T, fresh_step, whole_batch


def total(step: PretrainStep, batch: ClipBatch) -> torch.Tensor:
    return torch.stack(list(step(batch).values())).sum()


def slow(step: PretrainStep, batch: ClipBatch, group: torch.Tensor) -> torch.Tensor:
    """The losses from cached states; clips of one group match each other."""
    pixels = torch.stack([normalise_retrieval(clip) for clip in batch.pixels])
    states = step.encoder.trunk_states(pixels)
    assert step.head is not None
    assert batch.visible is not None
    text = step.text(batch.ids)
    return pretrain_loss(step.encoder, step.head, states, Captions(text, group), batch.visible, LossWeights())


@pytest.mark.parametrize("merged", [False, True])
def test_the_losses_are_those_of_cached_states_and_equal_captions_match_if_merged(merged: bool) -> None:
    base, batch = fresh_step(), replace(whole_batch(), group=torch.arange(B) // 2)
    step = PretrainStep(base.encoder, base.text, base.head, base.weights, merged=merged)
    expected = slow(step, batch, batch.group if merged else torch.arange(B))
    torch.testing.assert_close(total(step, batch), expected)


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
    losses = step(ClipBatch(batch.pixels, batch.ids, batch.group, None, batch.pairs))
    assert losses["vtc"] > 0
    assert losses["mbta"] == losses["mbca"] == 0
    assert set(step.learning()) == set(encoder.trainable())
