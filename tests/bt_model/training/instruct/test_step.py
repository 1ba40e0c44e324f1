"""The loss of a batch against its slow definition, and what reaches what."""

from typing import get_args

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from bt_model.generation.llama_layers import DecoderLayer
from bt_model.training.data.tokens import collate
from bt_model.training.instruct.base import num_video_tokens
from bt_model.training.instruct.settings import LearnSettings
from bt_model.training.instruct.step import InstructBatch, InstructStep, shares_of
from bt_model.training.objectives.answers import answer_logits
from bt_model.training.settings import Precision
from bt_model.training.trainer.optimiser import multiplying_in, recompute
from bt_model.training.trainer.parallel import World
from bt_model.video.transform import normalise
from bt_model.vision.clip import hidden_states
from bt_model.vision.pool import POOLINGS
from tests import tiny
from tests.bt_model.training.instruct.steps import (
    IDS,
    answer_loss,
    batch,
    equal_shares,
    fresh_step,
    gradients,
    loss_of,
    opened,
    row,
)


def slow_losses(step: InstructStep, given: InstructBatch) -> list[torch.Tensor]:
    """Each dialogue alone, without padding, through all logits: its mean loss."""
    losses = list[torch.Tensor]()
    for number, video in enumerate(given.videos):
        pooled = step.pool(step.encoder.chat(normalise(video)[None]))
        length = int(given.tokens.is_real[number].sum())
        tokens = given.tokens
        alone = type(tokens)(*(x[number : number + 1, :length] for x in (
            tokens.ids, tokens.labels, tokens.is_video, tokens.is_real
        )))  # fmt: skip
        losses.append(answer_loss(answer_logits(step.lm, step.projector, pooled, alone), alone.labels))
    return losses


def test_the_loss_is_the_mean_over_all_answer_tokens_or_over_dialogues() -> None:
    step, given = fresh_step(), batch()
    losses, counts = torch.stack(slow_losses(step, given)), given.tokens.num_answer_tokens
    assert counts.tolist() == [3, 5, 7]
    for weigh, expected in (("token", (losses * counts).sum() / counts.sum()), ("dialogue", losses.mean())):
        shares = shares_of(given, weigh, World())  # pyright: ignore[reportArgumentType] - one of two words
        torch.testing.assert_close(step(given, shares), expected)


@pytest.mark.parametrize("pooled", POOLINGS)
def test_videos_of_different_lengths_go_together_under_every_pooling(pooled: str) -> None:
    step, frames = fresh_step(pool=POOLINGS[pooled].pool), (4, 2, 4, 12)  # twelve are merged in pairs
    given = batch(frames, [num_video_tokens(step.encoder, pooled, count) for count in frames])
    losses, counts = torch.stack(slow_losses(step, given)), given.tokens.num_answer_tokens
    torch.testing.assert_close(loss_of(step, given), (losses * counts).sum() / counts.sum())


def test_padding_has_no_influence() -> None:
    step, given = fresh_step(), batch()
    other = given.tokens.ids.where(given.tokens.is_real, torch.tensor(7))
    tokens = type(given.tokens)(other, given.tokens.labels, given.tokens.is_video, given.tokens.is_real)
    assert torch.equal(loss_of(step, given), loss_of(step, InstructBatch(given.videos, tokens)))


@pytest.mark.parametrize("numbers", [(3,), (3, 4)])
def test_stored_states_give_the_losses_of_frames(numbers: tuple[int, ...]) -> None:
    frames = batch(frames=(4, 2, 4))
    step, cached = fresh_step(), fresh_step(stored=numbers)
    assert tuple(step.encoder.chat_reads) == (3, 4)
    tower, pixels = step.encoder.tower, [normalise(video)[None] for video in frames.videos]
    videos = [torch.cat(list(hidden_states(tower, x, numbers).values())) for x in pixels]
    halves = InstructBatch(tuple(x.half() for x in videos), frames.tokens)
    wholes = InstructBatch(tuple(videos), frames.tokens)
    torch.testing.assert_close(loss_of(cached, wholes), loss_of(step, frames))
    torch.testing.assert_close(loss_of(cached, halves), loss_of(step, frames), rtol=1e-3, atol=1e-3)


def test_stored_states_are_read_in_every_precision() -> None:
    frames = batch(frames=(4, 2, 4))
    tower = fresh_step().encoder.tower
    videos = [
        torch.cat(list(hidden_states(tower, normalise(x)[None], (3, 4)).values())) for x in frames.videos
    ]
    halves = InstructBatch(tuple(x.half() for x in videos), frames.tokens)
    expected = loss_of(fresh_step(stored=(3, 4)), halves)
    for precision in get_args(Precision):
        with multiplying_in(precision):
            found = loss_of(fresh_step(stored=(3, 4)), halves)
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_marker_rows_get_their_own_gradient_and_text_none() -> None:
    step, given = fresh_step(), batch()
    learning = opened(step, LearnSettings(projector=False, temporal=False, tokens=True))
    before = loss_of(step, given)
    torch.testing.assert_close(before, loss_of(fresh_step(), given))
    found = gradients(step, given)
    assert set(found) == {"markers.rows"}
    assert set(learning) == {"tokens"}
    assert (found["markers.rows"].abs().sum(dim=1) > 0).all()


def test_marker_rows_are_the_gradient_of_the_embedding_table() -> None:
    step, given = fresh_step(), batch()
    opened(step, LearnSettings(projector=False, temporal=False, tokens=True))
    found = gradients(step, given)["markers.rows"]
    plain = fresh_step()
    table = plain.lm.model.embed_tokens.weight.requires_grad_()
    counts, tokens = given.tokens.num_answer_tokens, given.tokens
    losses = list[torch.Tensor]()
    for number, video in enumerate(given.videos):
        embeds = plain.lm.embed(tokens.ids[number : number + 1])
        soft = plain.projector(torch.stack(plain.video_tokens([video])))
        embeds = embeds.masked_scatter(tokens.is_video[number : number + 1, :, None], soft)
        losses.append(counts[number] * answer_loss(plain.lm(embeds), tokens.labels[number : number + 1]))
    torch.stack(losses).sum().div(counts.sum()).backward()
    assert table.grad is not None
    torch.testing.assert_close(found, table.grad[[IDS.video_start, IDS.video_end]])


def test_recomputed_layers_keep_little_and_change_no_gradient() -> None:
    kept, found = list[int](), list[dict[str, torch.Tensor]]()
    for is_twice in (False, True):
        step, sizes = fresh_step(), list[int]()
        opened(step)
        if is_twice:
            recompute(step.lm, (DecoderLayer,))

        def note(x: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(x.nbytes)
            return x

        with saved_tensors_hooks(note, lambda x: x):
            loss_of(step, batch(frames=(1,)))
        kept.append(sum(sizes))
        found.append(gradients(step, batch()))
    assert kept[1] < 0.7 * kept[0]
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[1][name], gradient) for name, gradient in found[0].items())


def test_every_dialogue_is_supervised_on_its_answer_and_end() -> None:
    rows = [row(2, range(20, 25)), row(1, [20])]
    given = InstructBatch(tuple(tiny.clips(2, 2)), collate(rows, tiny.P + 1, pad=0))
    assert given.tokens.num_answer_tokens.tolist() == [6, 2]
    assert equal_shares(given).tolist() == [pytest.approx(1 / 8)] * 2
