"""Train one row of the grid with one seed, by the steps that `btchat train` runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch

from bt_model.training.instruct.step import InstructStep
from bt_model.training.objectives.captioner import Captioner
from bt_model.training.objectives.contrastive import AlignmentHead
from bt_model.training.pretrain.settings import MaskSettings
from bt_model.training.pretrain.step import PretrainStep
from bt_model.training.trainer.cost import kept_bytes
from bt_model.training.trainer.loop import Trained
from bt_model.training.trainer.optimiser import Schedule, multiplying_in
from bt_model.vision.build import build_encoder
from bt_model.vision.pool import pooling
from lab.dialogues import dialogue
from lab.evidence.bench import Bench
from lab.evidence.rows import Row
from lab.loaders import CaptionedClips, SceneDialogues
from lab.shapes.questions import questions
from lab.stages import pretraining_results, run_stage, tuning_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from bt_model.training.data.dialogues import VideoDialogue
    from bt_model.training.trainer.loop import ResultAt
    from bt_model.vision.encoder import TemporalEncoder
    from lab.chat_model import ChatModel
    from lab.shapes.scene import Scene

PRETRAIN_RATE, INSTRUCT_RATE = 3e-3, 1e-3
STATIC_KINDS = ("colour", "shape", "background")  # of questions beside the one about the event


@dataclass(frozen=True, slots=True)
class TrainedRow:
    """A trained model, the chat model that reads `num_video` tokens of it, and what training cost."""

    row: Row
    encoder: "TemporalEncoder"
    chat: "ChatModel"
    num_video: int
    cost: Trained
    num_steps: int
    activation_bytes: int = 0  # that a forward pass of a whole batch leaves for its backward pass

    @property
    def num_trainable(self) -> int:
        """How many numbers training updates, without heads that are thrown away."""
        projector = sum(p.numel() for p in self.chat.projector.parameters() if p.requires_grad)
        return (0 if self.row.training == "none" else self.encoder.num_trainable) + projector


@dataclass(frozen=True, slots=True)
class _Stage:
    """What learns, in how many steps at which rate, and from which losses."""

    learning: "Mapping[str, nn.Module]"
    num_steps: int
    rate: float
    result_at: "ResultAt"


def fit(row: Row, seed: int, bench: Bench, work: Path) -> TrainedRow:
    """Build and train a row, or read it back; equal seeds give equal models."""
    model = bench.model
    torch.manual_seed(seed)
    encoder = build_encoder(row.model, model.tower)
    pooled = pooling(row.pooling)
    num_video = pooled.num_tokens(model.plan.vision.num_patches)
    if pooled.is_per_frame:
        num_video *= bench.size.num_frames
    if row.training == "none":
        return TrainedRow(row, encoder, model.image, num_video, Trained(), 0)
    if row.training == "pretrain":
        chat, stage = model.image, _pretraining(row, seed, bench, encoder)
    else:
        chat = model.image.with_own_projector()
        stage = _tuning(row, seed, bench, encoder, chat, num_video)
    learns = [p for module in stage.learning.values() for p in module.parameters() if p.requires_grad]
    with multiplying_in(bench.precision):
        held = kept_bytes(lambda: stage.result_at(0, 0), learns)
    schedule = Schedule(stage.num_steps, stage.rate, precision=bench.precision)
    trained = run_stage(f"{row.name}-{seed}", stage.learning, schedule, stage.result_at, work)
    return TrainedRow(row, encoder.eval(), chat, num_video, trained, stage.num_steps, held)


def _pretraining(row: Row, seed: int, bench: Bench, encoder: "TemporalEncoder") -> _Stage:
    size, model, vision = bench.size, bench.model, bench.model.plan.vision
    has_head = row.model.has_branch and row.losses.mbta
    head = AlignmentHead(vision.width, vision.projection_dim) if has_head else None
    step = PretrainStep(encoder, model.text.tower, head, row.losses, merged=True, stored=encoder.reads)
    if row.losses.caption:
        step.captioner = Captioner(bench.captioner.lm, bench.captioner.projector)
    loader = CaptionedClips(
        "pretrain", seed, bench.train, size.pretrain_batch, encoder.reads, model.text,
        row.mask if row.is_masked else MaskSettings(rate=0.0), size.pretrain_steps,
        model.caption_tokenizer if row.losses.caption else None, row.static,
    )  # fmt: skip
    results = pretraining_results(step, loader, seed)
    return _Stage(step.learning(), size.pretrain_steps, PRETRAIN_RATE, results)


def _tuning(
    row: Row, seed: int, bench: Bench, encoder: "TemporalEncoder", chat: "ChatModel", num_video: int
) -> _Stage:
    size, reads = bench.size, encoder.chat_reads
    draw = partial(bench.train.draw, size.instruct_batch, reads=reads)
    loader = SceneDialogues("instruct", seed, draw, _dialogues, bench.model.speller, num_video)
    step = InstructStep(encoder, pooling(row.pooling).pool, chat.projector, chat.lm, stored=reads)
    learning = {**encoder.trainable(), "projector": chat.projector}
    return _Stage(learning, size.instruct_steps, INSTRUCT_RATE, tuning_results(step, loader, seed))


def _dialogues(drawn: "Sequence[Scene]", rng: Random) -> "list[VideoDialogue]":
    """The questions about each event, and one about a lasting fact, in random order."""
    found: list[VideoDialogue] = []
    for scene in drawn:
        every = questions(scene, rng)
        static = [question for question in every if question.kind in STATIC_KINDS]
        picked = [*(question for question in every if question.is_temporal), rng.choice(static)]
        rng.shuffle(picked)
        found.append(dialogue(picked))
    return found
