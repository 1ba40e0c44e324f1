"""Losses on what a chat model reads: what each compares, and what a mask leaves of it."""

from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import Tensor, nn

from bt_model.training.data.sampling import Masks
from bt_model.training.objectives.answers import answer_logits
from bt_model.training.objectives.captioner import Captioner, anchor_loss, chat_tokens, picture_loss
from bt_model.training.objectives.contrastive import LossWeights, contrastive
from bt_model.training.pretrain.step import CaptionBatch, PretrainBatch, PretrainStep, group_numbers
from bt_model.vision.bt_adapter import BranchState
from bt_model.vision.encoder import ChatFeatures, VideoEncoder
from bt_model.vision.pool import patches_cls
from lab.model import EmbeddedModel
from tests import tiny
from tests.bt_model.training.instruct.steps import answer_loss

if TYPE_CHECKING:
    from bt_model.text.clip_text import ClipTextTower

B, T = 3, 4
CAPTIONS = ["a red circle", "a blue square grows", "a red circle"]
GROUP = group_numbers(CAPTIONS)
TEXT = torch.randn(B, tiny.VISION.projection_dim, generator=torch.Generator().manual_seed(5))
VISIBLE = torch.tensor([[0, 3, 8], [2, 4, 5], [1, 6, 7]])


class KnownTexts(nn.Module):
    """A text tower whose embeddings are known."""

    def forward(self, ids: Tensor) -> Tensor:
        return TEXT[ids[:, 0]]


def read(visible: Tensor | None) -> tuple[VideoEncoder, ChatFeatures]:
    encoder = tiny.encoder()
    states = tiny.trunk_states(encoder, tiny.pixels(B, T))
    return encoder, encoder.both_from_trunk(states, visible=visible)[0]


def captioner_of(model: EmbeddedModel) -> Captioner:
    return Captioner(model.image.lm, model.image.projector)


def losses_of(
    model: EmbeddedModel, visible: Tensor | None, captioner: Captioner | None, **weights: float
) -> dict[str, Tensor]:
    """Those of a pre-training step over the same clips that have a weight."""
    encoder = tiny.encoder()
    given = LossWeights(0, 0, 0, **weights)
    text = cast("ClipTextTower", KnownTexts())
    step = PretrainStep(encoder, text, None, given, merged=True, stored=encoder.reads)
    step.captioner = captioner
    shown = torch.arange(tiny.P).expand(B, -1) if visible is None else visible
    masks = Masks(visible, torch.arange(T)[:, None] * tiny.P + shown[:, None])
    captions = CaptionBatch(torch.arange(B)[:, None], GROUP, model.caption_tokenizer.batch(CAPTIONS))
    states = torch.stack(tiny.trunk_states(encoder, tiny.pixels(B, T)), dim=1)
    found = step(PretrainBatch(states, captions, masks))
    assert not any(found.pop(name).any() for name in ("vtc", "mbta", "mbca"))
    return found


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
        shown = cast("list[int]", VISIBLE[b].tolist())
        for patch in range(tiny.P):
            expected = trunk[b, 1 + patch]
            if patch in shown:
                expected = 0.5 * (expected + branch.patches[b, :, shown.index(patch)].mean(dim=0))
            torch.testing.assert_close(tokens[b, patch], expected)
        torch.testing.assert_close(tokens[b, -1], 0.5 * (trunk[b, 0] + branch.cls[b]))


def test_the_caption_loss_is_the_mean_over_clips_of_answering_with_the_caption(model: EmbeddedModel) -> None:
    _, chat = read(VISIBLE)
    lm, projector, tokens = model.image.lm, model.image.projector, chat_tokens(chat, VISIBLE)
    alone = list[Tensor]()
    for b, caption in enumerate(CAPTIONS):
        batch = model.caption_tokenizer.batch([caption])
        alone.append(answer_loss(answer_logits(lm, projector, tokens[b : b + 1], batch), batch.labels))
    loss = captioner_of(model).loss(tokens, model.caption_tokenizer.batch(CAPTIONS))
    torch.testing.assert_close(loss, torch.stack(alone).mean())


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
    torch.testing.assert_close(anchor_loss(chat, visible), torch.stack(clips).mean())


def test_an_untouched_mean_has_no_distance() -> None:
    _, chat = read(None)
    trunk = chat.trunk
    same = ChatFeatures(trunk, BranchState(trunk[:, :, 1:], trunk[:, :, 0].mean(dim=1)))
    torch.testing.assert_close(anchor_loss(same, None), torch.zeros(()))


def test_the_alignment_sees_the_tokens_through_the_rest_of_the_trunk() -> None:
    encoder, chat = read(None)
    tokens = patches_cls(chat)
    tokens = torch.cat([tokens[:, -1:], tokens[:, :-1]], dim=1)  # as the trunk has them, CLS first
    num_layers = encoder.tower.config.num_layers
    (last,) = encoder.tower.advance(tokens, num_layers - 1, (num_layers,))
    expected = contrastive(encoder.tower.project(last[:, 0]), TEXT, GROUP)
    torch.testing.assert_close(picture_loss(encoder, chat, None, TEXT, GROUP), expected)


@pytest.mark.parametrize("visible", [None, VISIBLE])
def test_a_step_weighs_each_of_them(model: EmbeddedModel, visible: Tensor | None) -> None:
    encoder, chat = read(visible)
    captioner = captioner_of(model)
    answers = model.caption_tokenizer.batch(CAPTIONS)
    expected = {
        "anchor": 5 * anchor_loss(chat, visible),
        "chat": 2 * picture_loss(encoder, chat, visible, TEXT, GROUP),
        "caption": 3 * captioner.loss(chat_tokens(chat, visible), answers),
    }
    found = losses_of(model, visible, captioner, chat=2.0, caption=3.0, anchor=5.0)
    torch.testing.assert_close(found, expected)
    assert set(losses_of(model, visible, None, chat=2.0)) == {"chat"}


def test_the_captioner_stays_frozen_and_the_branch_learns(model: EmbeddedModel) -> None:
    captioner, encoder = captioner_of(model), tiny.encoder()
    adapter = encoder.adapter
    assert adapter is not None
    adapter.requires_grad_(requires_grad=True)
    chat, _ = encoder.both_from_trunk(tiny.trunk_states(encoder, tiny.pixels(B, T)))
    captioner.loss(chat_tokens(chat, None), model.caption_tokenizer.batch(CAPTIONS)).backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in adapter.parameters())
    assert all(p.grad is None for p in captioner.parameters())


def test_a_caption_loss_needs_its_captioner(model: EmbeddedModel) -> None:
    with pytest.raises(AssertionError, match="captioner"):
        losses_of(model, None, None, caption=1.0)
