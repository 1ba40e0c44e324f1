"""One step of each kind: what learns, what stays frozen, and what counts as a right answer."""

from collections.abc import Iterable
from itertools import product
from random import Random
from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import Tensor, nn

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import Delta, GenRequest, Soft
from bt_model.prompt.layout import PlacedVideo
from bt_model.prompt.segments import segments
from bt_model.training.data.sampling import Masks
from bt_model.training.data.tokens import TokenBatch
from bt_model.training.objectives.answers import answer_logits, exact_answers, spliced, summed_loss
from bt_model.training.objectives.contrastive import AlignmentHead, LossWeights, contrastive
from bt_model.training.pretrain.step import CaptionBatch, PretrainBatch, PretrainStep
from bt_model.types import Turn
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.encoder import VideoEncoder
from lab.dialogues import dialogue
from lab.model import EmbeddedModel
from lab.shapes.questions import ClipQuestion
from tests import tiny

if TYPE_CHECKING:
    from bt_model.text.clip_text import ClipTextTower

B, T = 3, 4
TEXT = torch.randn(B, tiny.VISION.projection_dim, generator=torch.Generator().manual_seed(5))
GROUP = torch.tensor([0, 1, 0])
VISIBLE = torch.tensor([[0, 3, 8], [2, 4, 5], [1, 6, 7]])


@pytest.fixture
def states() -> list[Tensor]:
    return tiny.trunk_states(tiny.encoder(), tiny.pixels(B, T))


def head() -> AlignmentHead:
    return tiny.wake(AlignmentHead(tiny.D, tiny.VISION.projection_dim), seed=6)


def with_fresh_branch() -> VideoEncoder:
    """As pre-training starts."""
    torch.manual_seed(0)
    tower = tiny.tower()
    branch = BTAdapter(tiny.VISION, tiny.ADAPTER)
    branch.init_from_trunk(tower)
    return VideoEncoder(tower, branch)


def largest(gradients: Iterable[Tensor | None]) -> float:
    return max(0.0 if g is None else float(g.abs().max()) for g in gradients)


class KnownTexts(nn.Module):
    """A text tower whose embeddings are known."""

    def forward(self, ids: Tensor) -> Tensor:
        return TEXT[ids[:, 0]]


def part_loss(encoder: VideoEncoder, states: list[Tensor], weights: LossWeights) -> Tensor:
    text = cast("ClipTextTower", KnownTexts())
    step = PretrainStep(encoder, text, head(), weights, merged=True, stored=encoder.reads)
    pairs = torch.arange(T)[:, None] * tiny.P + VISIBLE[:, None]
    captions = CaptionBatch(torch.arange(B)[:, None], GROUP)
    losses = step(PretrainBatch(torch.stack(states, dim=1), captions, Masks(VISIBLE, pairs)))
    return torch.stack(list(losses.values())).sum()


def test_vtc_matches_videos_with_texts(states: list[Tensor]) -> None:
    encoder = tiny.encoder()
    assert encoder.adapter is not None
    branch = encoder.adapter(states, encoder.tower.position, visible=VISIBLE)[-1]
    expected = contrastive(encoder.embed_video(states[-1], branch), TEXT, GROUP)
    torch.testing.assert_close(part_loss(encoder, states, LossWeights(1, 0, 0)), expected)


def test_mbta_aligns_each_visible_patch_with_the_same_patch_of_the_trunk(states: list[Tensor]) -> None:
    encoder, project = tiny.encoder(), head()
    tower, adapter = encoder.tower, encoder.adapter
    assert adapter is not None
    branch = adapter(states, tower.position, visible=VISIBLE)[-1]
    distances = list[Tensor]()
    for b, t, m in product(range(B), range(T), range(3)):
        patch = states[-1][b, t, 1 + VISIBLE[b, m]]
        teacher = tower.visual_projection(tower.post_layernorm(patch))
        student = project(branch.patches[b, t, m])
        distances.append((student / student.norm() - teacher / teacher.norm()).square().sum())
    loss = part_loss(encoder, states, LossWeights(0, 1, 0))
    torch.testing.assert_close(loss, torch.stack(distances).mean(), rtol=1e-4, atol=1e-5)


def test_mbca_matches_the_mean_of_projected_patches_with_texts(states: list[Tensor]) -> None:
    encoder = tiny.encoder()
    tower, adapter = encoder.tower, encoder.adapter
    assert adapter is not None
    branch = adapter(states, tower.position, visible=VISIBLE)[-1]
    mean = tower.visual_projection(branch.patches.mean(dim=(1, 2)))
    loss = part_loss(encoder, states, LossWeights(0, 0, 1))
    torch.testing.assert_close(loss, contrastive(mean, TEXT, GROUP), rtol=1e-4, atol=1e-4)


def test_the_losses_are_weighted_and_added(states: list[Tensor]) -> None:
    encoder = tiny.encoder()
    alone = [part_loss(encoder, states, LossWeights(*w)) for w in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    expected = 2 * alone[0] + 3 * alone[1] + 5 * alone[2]
    torch.testing.assert_close(part_loss(encoder, states, LossWeights(2, 3, 5)), expected)


def test_a_pretraining_step_changes_the_branch_and_not_the_tower(states: list[Tensor]) -> None:
    encoder = with_fresh_branch()
    assert encoder.adapter is not None
    tower, adapter = fingerprint(encoder.tower.state_dict()), fingerprint(encoder.adapter.state_dict())
    optimiser = torch.optim.AdamW(p for p in encoder.parameters() if p.requires_grad)
    part_loss(encoder, states, LossWeights()).backward()
    optimiser.step()
    assert fingerprint(encoder.tower.state_dict()) == tower
    assert fingerprint(encoder.adapter.state_dict()) != adapter


def test_at_the_first_step_time_learns_through_its_zero_projection_alone(states: list[Tensor]) -> None:
    encoder = with_fresh_branch()
    assert encoder.adapter is not None
    part_loss(encoder, states, LossWeights()).backward()
    temporal = encoder.adapter.temporal
    fc = [p.grad for n, p in temporal.named_parameters() if "temporal_fc" in n]
    attention = [p.grad for n, p in temporal.named_parameters() if "temporal_fc" not in n]
    assert largest(fc) > 1e-6
    assert largest(attention) == 0.0


def test_at_the_first_step_everything_else_of_the_branch_learns(states: list[Tensor]) -> None:
    encoder = with_fresh_branch()
    assert encoder.adapter is not None
    part_loss(encoder, states, LossWeights()).backward()
    # a constant added to all keys changes no softmax
    idle = [
        n
        for n, p in encoder.adapter.named_parameters()
        if "temporal" not in n and "k_proj.bias" not in n and not largest([p.grad])
    ]
    assert idle == []


def features(seed: int = 0) -> Tensor:
    return torch.randn(B, tiny.P + 1, tiny.D, generator=torch.Generator().manual_seed(seed))


def asked(answers: list[str]) -> list[ClipQuestion]:
    return [
        ClipQuestion("colour", f"what is number {n}?", answer, answer) for n, answer in enumerate(answers)
    ]


def batch_of(model: EmbeddedModel, answers: list[str]) -> TokenBatch:
    return model.speller.batch([dialogue([question]) for question in asked(answers)], model.num_video)


def test_video_tokens_stand_where_the_prompt_has_them(model: EmbeddedModel) -> None:
    batch, seen = batch_of(model, ["red", "dark blue and more", "x"]), features()
    logits = answer_logits(model.video.lm, model.video.projector, seen, batch)
    for b in range(B):
        length = int(batch.is_real[b].sum())
        embeds = model.video.lm.embed(batch.ids[b, :length]).clone()
        embeds[batch.is_video[b, :length]] = model.video.projector(seen[b])
        torch.testing.assert_close(
            logits[b, :length], model.video.lm(embeds[None], None)[0], rtol=1e-4, atol=1e-4
        )


def greedy(model: EmbeddedModel, number: int, question: ClipQuestion, seen: Tensor) -> list[int]:
    """The engine's answer to one question as a first turn."""
    speller = model.speller
    soft = PlacedVideo(Soft(b"", model.video.projector(seen[number])))
    prompt = segments([Turn("user", question.text)], speller.style, speller.ids, speller.encode, [soft])
    engine = BatchEngine(model.video.lm, max_batch=1)
    engine.start()
    events = list(engine.submit(GenRequest("a", prompt, 12, frozenset({speller.ids.eos}))).stream())
    engine.stop()
    return [i for event in events if isinstance(event, Delta) for i in event.token_ids]


def overfit(model: EmbeddedModel, batch: TokenBatch, seen: Tensor) -> None:
    """Learn the answers by heart."""
    lm = model.video.lm.requires_grad_(requires_grad=True)
    optimiser = torch.optim.AdamW(lm.parameters(), lr=3e-3)
    soft = model.video.projector(seen)
    shares = torch.full((B,), 1 / float(batch.num_answer_tokens.sum()))
    for _ in range(60):
        optimiser.zero_grad()
        summed_loss(lm, spliced(lm.embed(batch.ids), soft, batch), batch, shares).backward()
        optimiser.step()


def test_exact_answers_agree_with_greedy_decoding(model: EmbeddedModel) -> None:
    known = ["red", "dark blue", "it grows"]
    seen = features()
    overfit(model, batch_of(model, known), seen)
    rng = Random(0)
    verdicts = list[bool]()
    for wrong in range(B + 1):
        answers = [rng.choice(["green", "red it", "dark"]) if n == wrong else a for n, a in enumerate(known)]
        right = exact_answers(model.video.lm, model.video.projector, seen, batch_of(model, answers)).tolist()
        given = [greedy(model, n, question, seen) for n, question in enumerate(asked(answers))]
        assert right == [
            ids == model.speller.encode(f" {a}").ids for ids, a in zip(given, answers, strict=True)
        ]
        verdicts += right
    assert set(verdicts) == {True, False}


def test_no_answer_of_an_untrained_decoder_is_exact(model: EmbeddedModel) -> None:
    batch = batch_of(model, ["red", "blue", "x"])
    assert not exact_answers(model.video.lm, model.video.projector, features(), batch).any()


def test_the_alignment_head_is_the_published_extra_proj() -> None:
    kinds = [(type(part), name) for name, part in head().named_children()]
    assert kinds == [(nn.Linear, "0"), (nn.LayerNorm, "1")]
