"""Which parameters learn, and the modules that hold them.

T frames, P patches, D width.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.errors import InvalidValueError
from bt_model.training.instruct.lora import add_lora
from bt_model.training.instruct.step import MarkerRows
from bt_model.vision.build import OPENED

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.prompt.segments import SpecialIds
    from bt_model.training.instruct.config import LearnSettings
    from bt_model.training.instruct.step import InstructStep
    from bt_model.vision.encoder import ChatFeatures, TemporalEncoder

_GATES = ("balance1", "balance2")


def open_up(step: "InstructStep", learn: "LearnSettings", ids: "SpecialIds") -> dict[str, nn.Module]:
    """Freeze everything, then let learn what is wanted; the modules that hold it, by part of a checkpoint.

    LoRA's first factors are drawn from torch's global generator.

    Raises:
        InvalidValueError: nothing to learn in the temporal model, or no markers around a video.
    """
    step.requires_grad_(requires_grad=False).eval()
    learning: dict[str, nn.Module] = {}
    if learn.projector:
        learning["projector"] = step.projector.requires_grad_(requires_grad=True)
    if learn.temporal:
        learning |= _open_temporal(step.encoder, step.pool, with_gates=learn.gates)
    if learn.tokens:
        if ids.video_start is None or ids.video_end is None:
            raise InvalidValueError(
                "learn.tokens is true; allowed: false, since this template has no markers around a video",
                param="learn.tokens",
            )
        step.markers = MarkerRows(step.lm, ids)
        learning["tokens"] = step.markers
    if learn.lora_rank:
        learning["lora"] = add_lora(step.lm, learn)
    for module in learning.values():
        module.train()
    return learning


def _open_temporal(
    encoder: "TemporalEncoder", pool: "Callable[[ChatFeatures], Tensor]", *, with_gates: bool
) -> dict[str, nn.Module]:
    """What the chat path uses learns; a branch's last layer, for example, only retrieval reads."""
    parts = encoder.trainable()
    named = {
        f"{part}.{name}": weight
        for part, module in parts.items()
        for name, weight in module.named_parameters()
        if (part != "vision" or name.startswith(OPENED)) and (with_gates or name not in _GATES)
    }
    if not named:
        raise InvalidValueError(
            "learn.temporal is true; allowed: false, since CLIP averaged over frames has nothing to learn",
            param="learn.temporal",
        )
    used = _used(encoder, pool, list(named.values()))
    for weight in used:
        weight.requires_grad_()
    return parts


def _used(
    encoder: "TemporalEncoder", pool: "Callable[[ChatFeatures], Tensor]", weights: list[nn.Parameter]
) -> list[nn.Parameter]:
    """Those of the weights that a gradient of the chat features reaches."""
    vision, like = encoder.tower.config, encoder.tower.class_embedding
    num_frames = 2 if getattr(encoder, "upstream_compat", False) else 1  # that one halves them
    shape = (1, num_frames, 1 + vision.num_patches, vision.width)
    for weight in weights:
        weight.requires_grad_()
    features = encoder.chat_from_trunk([like.new_zeros(shape) for _ in encoder.chat_reads])
    total = pool(features).sum()
    found: list[Tensor | None] = list(torch.autograd.grad(total, weights, allow_unused=True))
    for weight in weights:
        weight.requires_grad_(False)
    return [weight for weight, gradient in zip(weights, found, strict=True) if gradient is not None]
