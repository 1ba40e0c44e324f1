"""Losses on what a chat model reads: what each compares, and what a mask leaves of it."""

from typing import cast

import pytest
import torch
from torch import Tensor

from bt_model.training.config import LossWeights
from bt_model.training.objectives.answers import instruct_loss
from bt_model.training.objectives.captioner import Captioner, Captions, chat_losses, chat_tokens
from bt_model.training.objectives.losses import contrastive
from bt_model.vision.bt_adapter import BranchState
from bt_model.vision.encoder import ChatFeatures, VideoEncoder
from bt_model.vision.pool import patches_cls
from lab.embedded import Model
from lab.pictures import group_numbers
from lab.stages import caption_batch
from tests import tiny

B, T = 3, 4
SAID = ["a red circle", "a blue square grows", "a red circle"]
TEXT = torch.randn(B, tiny.VISION.projection_dim, generator=torch.Generator().manual_seed(5))
VISIBLE = torch.tensor([[0, 3, 8], [2, 4, 5], [1, 6, 7]])


def read(visible: Tensor | None) -> tuple[VideoEncoder, ChatFeatures]:
    encoder = tiny.encoder()
    states = encoder.trunk_states(tiny.pixels(B, T))
    return encoder, encoder.both_from_trunk(states, visible=visible)[0]


def captions(model: Model | None = None) -> Captions:
    captioner = None
    if model is not None:
        captioner = Captioner(model.image.lm, model.image.projector, caption_batch(SAID, model.tokens))
    return Captions(TEXT, group_numbers(SAID), captioner)


def loss(visible: Tensor | None, model: Model | None = None, **weights: float) -> Tensor:
    encoder, chat = read(visible)
    return total(chat_losses(encoder, chat, visible, captions(model), LossWeights(0, 0, 0, **weights)))


def total(told: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(told.values())).sum()


def branch_of(chat: ChatFeatures) -> BranchState:
    assert chat.branch is not None
    return chat.branch


def test_without_a_mask_the_tokens_are_those_of_the_serving_pooling() -> None:
    _, chat = read(None)
    assert torch.equal(chat_tokens(chat, None), patches_cls(chat))


def test_a_hidden_patch_is_the_trunks_alone_and_a_visible_one_is_half_the_branchs() -> None:
    _, chat = read(VISIBLE)
    tokens, trunk, branch = chat_tokens(chat, VISIBLE), chat.trunk.mean(dim=1), branch_of(chat)
    for b in range(B):
        seen = cast("list[int]", VISIBLE[b].tolist())
        for patch in range(tiny.P):
            expected = trunk[b, 1 + patch]
            if patch in seen:
                expected = 0.5 * (expected + branch.patches[b, :, seen.index(patch)].mean(dim=0))
            torch.testing.assert_close(tokens[b, patch], expected)
        torch.testing.assert_close(tokens[b, -1], 0.5 * (trunk[b, 0] + branch.cls[b]))


def test_the_caption_loss_is_the_mean_over_clips_of_answering_with_the_caption(model: Model) -> None:
    _, chat = read(VISIBLE)
    lm, projector, tokens = model.image.lm, model.image.projector, chat_tokens(chat, VISIBLE)
    alone = [
        instruct_loss(lm, projector, tokens[b : b + 1], caption_batch([said], model.tokens))
        for b, said in enumerate(SAID)
    ]
    torch.testing.assert_close(loss(VISIBLE, model, caption=1.0), torch.stack(alone).mean())


@pytest.mark.parametrize("visible", [None, VISIBLE])
def test_the_anchor_is_the_branchs_distance_from_the_trunk_in_the_clips_own_spread(
    visible: Tensor | None,
) -> None:
    _, chat = read(visible)
    trunk, branch = chat.trunk.mean(dim=1), branch_of(chat)
    if visible is not None:
        patches = torch.stack([trunk[b, 1 + visible[b]] for b in range(B)])
        trunk = torch.cat([trunk[:, :1], patches], dim=1)
    ours = torch.cat([branch.cls[:, None], branch.patches.mean(dim=1)], dim=1)
    clips = [(a - b).square().mean() / b.var() for a, b in zip(ours, trunk, strict=True)]
    torch.testing.assert_close(loss(visible, anchor=1.0), torch.stack(clips).mean())


def test_an_untouched_mean_has_no_distance() -> None:
    encoder, chat = read(None)
    trunk = chat.trunk
    same = ChatFeatures(trunk, BranchState(trunk[:, :, 1:], trunk[:, :, 0].mean(dim=1)))
    held = chat_losses(encoder, same, None, captions(), LossWeights(0, 0, 0, anchor=1.0))
    torch.testing.assert_close(held, {"anchor": torch.zeros(())})


def test_the_alignment_sees_the_tokens_through_the_rest_of_the_trunk() -> None:
    encoder, chat = read(None)
    tokens = patches_cls(chat)
    tokens = torch.cat([tokens[:, -1:], tokens[:, :-1]], dim=1)  # as the trunk has them, CLS first
    num_layers = encoder.tower.config.num_layers
    (last,) = encoder.tower.advance(tokens, num_layers - 1, (num_layers,))
    expected = contrastive(encoder.tower.project(last[:, 0]), TEXT, group_numbers(SAID))
    torch.testing.assert_close(loss(None, chat=1.0), expected)


def test_they_are_weighted_and_added(model: Model) -> None:
    alone = [loss(VISIBLE, model, **{name: 1.0}) for name in ("chat", "caption", "anchor")]
    expected = 2 * alone[0] + 3 * alone[1] + 5 * alone[2]
    torch.testing.assert_close(loss(VISIBLE, model, chat=2.0, caption=3.0, anchor=5.0), expected)


def test_the_captioner_stays_frozen_and_the_branch_learns(model: Model) -> None:
    encoder = tiny.encoder()
    assert encoder.adapter is not None
    encoder.adapter.requires_grad_(requires_grad=True)
    chat, _ = encoder.both_from_trunk(encoder.trunk_states(tiny.pixels(B, T)))
    told = chat_losses(encoder, chat, None, captions(model), LossWeights(0, 0, 0, caption=1.0))
    told["caption"].backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in encoder.adapter.parameters())
    assert all(p.grad is None for p in (*model.image.lm.parameters(), *model.image.projector.parameters()))


def test_a_caption_loss_needs_its_captioner() -> None:
    with pytest.raises(AssertionError, match="captioner"):
        loss(None, caption=1.0)
