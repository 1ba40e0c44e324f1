"""The plan of a run: dialogues, steps, parameter groups, FLOPs, memory.

T frames, P patches, D width of the tower, K video tokens, W width of the language model, n positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bt_model.config import CLIP_L14, VICUNA_7B, ClipVisionConfig, LlamaConfig, TemporalConfig
from bt_model.errors import require
from bt_model.generation.llama import Llama
from bt_model.prompt.segments import SpecialIds
from bt_model.training.data.tokens import IGNORED, TokenRow
from bt_model.training.instruct.config import InstructSettings
from bt_model.training.instruct.learning import open_up
from bt_model.training.instruct.step import InstructStep
from bt_model.training.trainer.cost import count_flops
from bt_model.training.trainer.optimiser import ADAM_BYTES, Schedule, described, parameter_groups
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.pool import pooling

if TYPE_CHECKING:
    from torch import Tensor

DIALOGUES = 100_010  # of VideoChatGPT-100K, assumed without annotations
_TYPICAL = (420, 90)  # tokens of one of its dialogues, 257 of video among them, and of its answer


@dataclass(frozen=True, slots=True)
class Sizes:
    """Configurations of a chat model's parts; `is_deep`: its projector has two layers."""

    vision: ClipVisionConfig
    temporal: TemporalConfig
    llama: LlamaConfig
    pooling: str
    skip: int = 1
    is_deep: bool = False


PUBLISHED = Sizes(CLIP_L14, TemporalConfig(), VICUNA_7B, "patches_cls")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of an average dialogue, video included, and how many of them are supervised."""

    tokens: int
    answers: int

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> "Lengths":
        """The means over some rows."""
        answers = sum(label != IGNORED for row in rows for label in row.labels)
        return cls(sum(len(row.ids) for row in rows) // len(rows), max(1, answers // len(rows)))


TYPICAL = Lengths(*_TYPICAL)


def schedule_of(settings: InstructSettings, steps_per_epoch: int) -> Schedule:
    """The run's length and learning rate schedule."""
    given = settings.optimiser
    return Schedule(
        num_steps=given.epochs * steps_per_epoch, learning_rate=given.rate, weight_decay=given.weight_decay,
        clip_norm=given.clip_norm, precision=settings.run.precision, warmup=given.warmup, floor=given.floor,
        betas=(given.beta1, given.beta2), eps=given.eps, accumulate=given.accumulate,
    )  # fmt: skip


def meta_step(settings: InstructSettings, sizes: Sizes) -> tuple[InstructStep, dict[str, nn.Module]]:
    """The step on the meta device, and its trained modules."""
    with torch.device("meta"):
        encoder = build_encoder(sizes.temporal, ClipVisionTower(sizes.vision), skip=sizes.skip)
        width = sizes.llama.width
        first = nn.Linear(sizes.vision.width, width)
        projector = nn.Sequential(first, nn.GELU(), nn.Linear(width, width)) if sizes.is_deep else first
        step = InstructStep(encoder, pooling(sizes.pooling).pool, projector, Llama(sizes.llama))
        return step, open_up(step, settings.learn, SpecialIds(1, 2, 0, 0))


def flops_per_dialogue(settings: InstructSettings, sizes: Sizes, lengths: Lengths) -> float:
    """FLOPs of one dialogue's forward and backward pass; recomputation does not count.

    With stored features the tower's first layers cost nothing.
    """
    step, _ = meta_step(settings, sizes)
    side, frames, width = sizes.vision.image_size, settings.data.frames, sizes.llama.width
    if settings.data.features:
        step.stored = (step.encoder.chat_reads[0],)
        shape = (1, frames, 1 + sizes.vision.num_patches, sizes.vision.width)
        video = torch.empty(shape, dtype=torch.float16, device="meta")
    else:
        video = torch.empty(frames, side, side, 3, dtype=torch.uint8, device="meta")

    def work() -> None:
        soft = step.projector(torch.cat(step.video_tokens([video])))
        rest = soft.new_empty(max(0, lengths.tokens - len(soft)), width)
        states = step.lm.states(torch.cat([rest, soft])[None])
        loss: Tensor = step.lm.logits(states[:, -lengths.answers :]).sum()
        loss.backward()

    return count_flops(work)


@dataclass(frozen=True, slots=True)
class InstructPlan:
    """The figures of `--dry-run`; `counts` are those of the dialogues.

    Raises:
        InvalidValueError: no device.
    """

    settings: InstructSettings
    sizes: Sizes
    lengths: Lengths
    counts: Mapping[str, int]
    num_devices: int = 1

    def __post_init__(self) -> None:
        require(self.num_devices >= 1, "devices", self.num_devices, "1 or more")

    def describe(self) -> dict[str, Any]:
        """Everything, for people and machines."""
        given = self.settings.optimiser
        step, learning = meta_step(self.settings, self.sizes)
        groups = parameter_groups(learning, given.rate, given.rates)
        flops = flops_per_dialogue(self.settings, self.sizes, self.lengths)
        return {
            "steps": given.epochs * (self.counts["used"] // given.batch),
            "dialogues": {
                **self.counts,
                "per step": given.batch,
                "per device": given.batch / given.accumulate / self.num_devices,
            },
            "tokens per dialogue": self.lengths.tokens,
            "answer tokens per dialogue": self.lengths.answers,
            "learning parameters": described(groups),
            "frozen parameters": sum(p.numel() for p in step.parameters() if not p.requires_grad),
            "TFLOP per dialogue": flops / 1e12,
            "memory of weights and optimiser per device, GB": self._memory(step) / 1e9,
        }

    def _memory(self, step: InstructStep) -> float:
        """Bytes of weights, gradients and moments, without activations."""
        run = self.settings.run
        half = 4 if run.precision == "float32" else 2
        learning = sum(p.numel() for p in step.parameters() if p.requires_grad)
        tower = sum(p.numel() for p in step.encoder.parameters() if not p.requires_grad)
        language = sum(p.numel() for p in step.lm.parameters() if not p.requires_grad)
        whole = ADAM_BYTES * learning + 4 * tower + half * language
        return whole / (self.num_devices if run.parallel == "fsdp" else 1)
