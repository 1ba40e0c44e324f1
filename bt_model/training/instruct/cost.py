"""What one dialogue costs: its FLOPs, counted on the meta device.

T frames, P patches, D width of the tower, K video tokens, W width of the language model, n positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.config import ClipVisionConfig, LlamaConfig, TemporalConfig
from bt_model.generation.llama import Llama
from bt_model.prompt.segments import SpecialIds
from bt_model.training.data.tokens import IGNORED, TokenRow
from bt_model.training.instruct.learning import unfreeze
from bt_model.training.instruct.settings import InstructSettings
from bt_model.training.instruct.step import InstructStep
from bt_model.training.trainer.cost import count_flops
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.pool import pooling

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ChatModelConfigs:
    """Configurations of a chat model's parts; `is_deep`: its projector has two layers."""

    vision: ClipVisionConfig
    temporal: TemporalConfig
    llama: LlamaConfig
    pooling: str
    skip: int = 1
    is_deep: bool = False


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


def meta_instruct_step(
    settings: InstructSettings, sizes: ChatModelConfigs
) -> tuple[InstructStep, dict[str, nn.Module]]:
    """The step on the meta device, and its trained modules."""
    with torch.device("meta"):
        encoder = build_encoder(sizes.temporal, ClipVisionTower(sizes.vision), skip=sizes.skip)
        width = sizes.llama.width
        first = nn.Linear(sizes.vision.width, width)
        projector = nn.Sequential(first, nn.GELU(), nn.Linear(width, width)) if sizes.is_deep else first
        step = InstructStep(encoder, pooling(sizes.pooling).pool, projector, Llama(sizes.llama))
        return step, unfreeze(step, settings.learn, SpecialIds(1, 2, 0, 0))


def flops_per_dialogue(settings: InstructSettings, sizes: ChatModelConfigs, lengths: Lengths) -> float:
    """FLOPs of one dialogue's forward and backward pass; recomputation does not count.

    With stored features the tower's first layers cost nothing.
    """
    step, _ = meta_instruct_step(settings, sizes)
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
