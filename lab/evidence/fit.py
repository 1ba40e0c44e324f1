"""Train one row of the grid with one seed. B clips, T frames, P patches, D width."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.training.data.masking import first_unmasked, generator_for, tube_mask
from bt_model.training.data.tokens import collate
from bt_model.training.objectives.alignment import AlignmentHead, pretrain_loss
from bt_model.training.objectives.answers import instruct_loss
from bt_model.training.trainer.cost import Trained, kept_bytes
from bt_model.training.trainer.loop import train
from bt_model.training.trainer.optimiser import Schedule
from bt_model.training.trainer.precision import multiplying_in
from bt_model.vision.build import build_encoder
from bt_model.vision.pool import pooling
from lab.dialogues import DialogueTokens
from lab.evidence.bench import Bench
from lab.evidence.rows import Row
from lab.pictures import captions_of
from lab.shapes.questions import Question, questions
from lab.stages import ChatParts

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.encoder import TemporalEncoder
    from lab.shapes.scene import Scene

PRETRAIN_RATE, INSTRUCT_RATE = 3e-3, 1e-3
ASKED = ("colour", "shape", "background")  # beside the question about the event


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained model, the chat model that reads it, how dialogues are spelled, and what training cost."""

    row: Row
    encoder: "TemporalEncoder"
    chat: ChatParts
    tokens: DialogueTokens
    trained: Trained
    num_steps: int
    kept_bytes: int = 0  # by a forward pass of a whole batch, for its backward pass

    @property
    def num_trainable(self) -> int:
        """How many numbers training updates, without heads that are thrown away."""
        projector = sum(p.numel() for p in self.chat.projector.parameters() if p.requires_grad)
        return (0 if self.row.training == "none" else self.encoder.num_trainable) + projector


def fit(row: Row, seed: int, bench: Bench, work: Path) -> Fitted:
    """Build and train a row, or read it back; equal seeds give equal models."""
    model = bench.model
    torch.manual_seed(seed)
    encoder = build_encoder(row.model, model.tower)
    num_video = pooling(row.pooling).num_tokens(model.plan.vision.num_patches)
    if row.pooling == "frames":
        num_video *= bench.size.num_frames
    tokens = DialogueTokens(model.tokens.style, model.tokens.ids, model.tokens.encode, num_video)
    if row.training == "none":
        return Fitted(row, encoder, model.image, tokens, Trained(), 0)
    if row.training == "pretrain":
        stage = _pretraining(row, seed, bench, encoder)
        chat, num_steps, rate = model.image, bench.size.pretrain_steps, PRETRAIN_RATE
    else:
        chat, num_steps = ChatParts(model.image.lm, _copy(model.image.projector)), bench.size.instruct_steps
        rate = INSTRUCT_RATE
        stage = _tuning(row, seed, bench, encoder, chat, tokens)
    with multiplying_in(bench.precision):
        kept = kept_bytes(lambda: stage.loss_at(0), stage.parameters)
    schedule = Schedule(num_steps, rate, precision=bench.precision)
    trained = train(f"{row.name}-{seed}", stage.modules, stage.parameters, schedule, stage.loss_at, work)
    return Fitted(row, encoder.eval(), chat, tokens, trained, num_steps, kept)


@dataclass(frozen=True, slots=True)
class _Stage:
    modules: Mapping[str, nn.Module]
    parameters: Sequence[nn.Parameter]
    loss_at: "Callable[[int], Tensor]"


def _copy(projector: nn.Linear) -> nn.Linear:
    copy = nn.Linear(projector.in_features, projector.out_features)
    copy.load_state_dict(projector.state_dict())
    return copy


def _pretraining(row: Row, seed: int, bench: Bench, encoder: "TemporalEncoder") -> _Stage:
    size, vision = bench.size, bench.model.plan.vision
    head = (
        AlignmentHead(vision.width, vision.projection_dim)
        if row.model.has_branch and row.losses.mbta
        else None
    )
    unmasked_from = first_unmasked(row.unmasked, size.pretrain_steps)

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"pretrain {seed} {step}")
        drawn, states = bench.train.draw(size.pretrain_batch, rng, encoder.reads)
        texts = captions_of(drawn, rng, static_share=row.static)
        visible = None
        if row.is_masked and step < unmasked_from:
            visible = tube_mask(len(drawn), vision.num_patches, row.mask_rate, generator_for(seed, step))
        captions = bench.captions.captions(texts, are_said=row.losses.caption > 0)
        return pretrain_loss(encoder, head, states, captions, visible, row.losses)

    modules = {**encoder.trainable(), **({} if head is None else {"head": head})}
    parameters = [*encoder.trainable_parameters(), *([] if head is None else head.parameters())]
    return _Stage(modules, parameters, loss_at)


def _tuning(
    row: Row,
    seed: int,
    bench: Bench,
    encoder: "TemporalEncoder",
    chat: ChatParts,
    tokens: DialogueTokens,
) -> _Stage:
    size, pool = bench.size, pooling(row.pooling).pool

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"instruct {seed} {step}")
        drawn, states = bench.train.draw(size.instruct_batch, rng, encoder.chat_reads)
        video = pool(encoder.chat_from_trunk(states))
        rows = [tokens.row(_dialogue(scene, rng)) for scene in drawn]
        return instruct_loss(chat.lm, chat.projector, video, collate(rows, tokens.num_video, tokens.ids.eos))

    modules = {**encoder.trainable(), "projector": chat.projector}
    parameters = [*encoder.trainable_parameters(), *chat.projector.parameters()]
    return _Stage(modules, parameters, loss_at)


def _dialogue(scene: "Scene", rng: Random) -> list[Question]:
    """The questions about the event, and one about a lasting fact, in random order."""
    asked = questions(scene, rng)
    static = [question for question in asked if question.kind in ASKED]
    picked = [*(question for question in asked if question.is_temporal), rng.choice(static)]
    rng.shuffle(picked)
    return picked
