"""The stages of the embedded model: towers, language, captioner, branch, instruction, baseline.

But for CLIP's own training, each runs the steps of `btchat train`, over drawn clips or pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING

from bt_model.training.instruct.step import InstructBatch, InstructStep, weighed
from bt_model.training.objectives.captioner import Captioner
from bt_model.training.objectives.contrastive import contrastive
from bt_model.training.pretrain.step import PretrainBatch, PretrainStep, group_numbers
from bt_model.training.trainer.loop import (
    BatchSource,
    ResultAt,
    StepResult,
    Trained,
    TrainingJob,
    results_from,
    run,
)
from bt_model.training.trainer.optimiser import parameter_groups
from bt_model.training.trainer.parallel import World
from bt_model.vision.pool import patches_cls
from lab.dialogues import caption_dialogues, question_dialogues
from lab.loaders import CaptionedClips, SceneDialogues
from lab.pictures import captions_of, draw_pictures, pictures, varied_scenes, with_partners

if TYPE_CHECKING:
    from torch import nn

    from bt_model.training.data.dialogues import VideoDialogue
    from bt_model.training.trainer.optimiser import Schedule
    from bt_model.vision.bt_adapter import BTAdapter
    from lab.chat_model import ChatModel
    from lab.clips import CachedClips
    from lab.model import EmbeddedModel
    from lab.shapes.scene import Scene

MAX_SCALE = 100.0
TUNED_RATE = 0.5  # of the projector's learning rate, for what was trained before


def train_towers(model: "EmbeddedModel", work: Path) -> Trained:
    """CLIP on single pictures and captions."""
    plan, tower, text = model.plan, model.tower, model.text
    last = plan.vision.num_layers

    def result_at(step: int, _part: int) -> StepResult:
        rng = Random(f"towers {plan.seed} {step}")
        drawn = with_partners(varied_scenes("train", plan.clip_batch // 2, rng), rng)
        texts = captions_of(drawn, rng)
        (x,) = tower(pictures(drawn, plan.vision.image_size), range(last, last + 1))
        scale = text.log_scale.exp().clamp(max=MAX_SCALE)
        return StepResult(contrastive(tower.project(x[:, 0]), text(texts), group_numbers(texts), scale=scale))

    return run_stage("towers", {"vision": tower, "text": text}, plan.clip, result_at, work)


def train_language(model: "EmbeddedModel", work: Path) -> Trained:
    """The image chat model: decoder and projector on questions about single pictures, towers frozen."""
    return _train_on_pictures("language", model, model.image, model.plan.language, question_dialogues, work)


def train_captioner(model: "EmbeddedModel", work: Path) -> "tuple[ChatModel, Trained]":
    """A copy of the image chat model is trained to caption single pictures, and then frozen."""
    chat = model.image.copy()
    trained = _train_on_pictures("captioner", model, chat, model.plan.captioner, caption_dialogues, work)
    chat.freeze()
    return chat, trained


def _train_on_pictures(
    name: str,
    model: "EmbeddedModel",
    chat: "ChatModel",
    schedule: "Schedule",
    write: "Callable[[Sequence[Scene], Random], list[VideoDialogue]]",
    work: Path,
) -> Trained:
    """Decoder and projector on dialogues about single pictures; towers frozen."""
    plan = model.plan
    draw = partial(draw_pictures, plan.language_batch, side=plan.vision.image_size)
    loader = SceneDialogues(name, plan.seed, draw, write, model.speller, model.num_video)
    step = InstructStep(model.encoder(None), patches_cls, chat.projector, chat.lm)
    learning = {"lm": chat.lm, "projector": chat.projector}
    return run_stage(name, learning, schedule, tuning_results(step, loader, plan.seed), work)


def train_branch(model: "EmbeddedModel", captioner: "ChatModel", clips: "CachedClips", work: Path) -> Trained:
    """Masked video-text pre-training of the BT-Adapter beside frozen towers; the last steps have no mask."""
    plan, encoder = model.plan, model.encoder(model.pretrained)
    step = PretrainStep(encoder, model.text.tower, model.head, plan.losses, merged=True, stored=encoder.reads)
    step.captioner = Captioner(captioner.lm, captioner.projector)
    loader = CaptionedClips(
        "branch", plan.seed, clips, plan.pretrain_batch, encoder.reads, model.text, plan.mask,
        plan.pretrain.num_steps, model.caption_tokenizer,
    )  # fmt: skip
    results = pretraining_results(step, loader, plan.seed)
    return run_stage("branch", step.learning(), plan.pretrain, results, work)


def train_instruct(model: "EmbeddedModel", clips: "CachedClips", work: Path) -> Trained:
    """Instruction tuning on videos: branch, projector and decoder are trained, the towers stay frozen."""
    return _tune("instruct", model, model.tuned, model.video, model.plan.instruct, clips, work)


def train_baseline(model: "EmbeddedModel", clips: "CachedClips", work: Path) -> Trained:
    """The same tuning for CLIP averaged over frames: projector and decoder learn."""
    return _tune("baseline", model, None, model.baseline, model.plan.baseline, clips, work)


def _tune(
    name: str,
    model: "EmbeddedModel",
    adapter: "BTAdapter | None",
    chat: "ChatModel",
    schedule: "Schedule",
    clips: "CachedClips",
    work: Path,
) -> Trained:
    plan, encoder = model.plan, model.encoder(adapter)
    draw = partial(clips.draw, plan.instruct_batch, reads=encoder.chat_reads)
    loader = SceneDialogues(name, plan.seed, draw, question_dialogues, model.speller, model.num_video)
    step = InstructStep(encoder, patches_cls, chat.projector, chat.lm, stored=encoder.chat_reads)
    trained_before = {**encoder.trainable(), "lm": chat.lm}
    learning = {**trained_before, "projector": chat.projector}
    rates = dict.fromkeys(trained_before, TUNED_RATE)
    return run_stage(name, learning, schedule, tuning_results(step, loader, plan.seed), work, rates)


def pretraining_results(step: PretrainStep, loader: "BatchSource[PretrainBatch]", seed: int) -> ResultAt:
    """The product's pre-training in this process, on the CPU."""
    return results_from(loader, step, World(), seed)


def tuning_results(step: InstructStep, loader: "BatchSource[InstructBatch]", seed: int) -> ResultAt:
    """The product's tuning in this process, on the CPU; all answer tokens count alike."""
    world = World()
    return results_from(loader, weighed(step, "token", world), world, seed)


def run_stage(
    name: str,
    learning: "Mapping[str, nn.Module]",
    schedule: "Schedule",
    result_at: ResultAt,
    work: Path,
    rates: Mapping[str, float] = MappingProxyType({}),
) -> Trained:
    """Train these modules, at `rates` times the schedule's own rate, from the last checkpoint in `work`."""
    groups = parameter_groups(learning, schedule.learning_rate, rates)
    return run(TrainingJob(name, learning, groups, schedule, result_at, work))
