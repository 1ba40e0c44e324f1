"""Which parameters are trained, and the modules that contain them.

T frames, P patches, D width, R rank; low-rank additions are those of bt_model/backends/parts/lora.py.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import linear

from bt_model.backends.parts.lora import Addition
from bt_model.errors import InvalidValueError
from bt_model.training.instruct.step import MarkerRows
from bt_model.vision.build import UNFROZEN

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.prompt.segments import SpecialIds
    from bt_model.training.instruct.settings import LearnSettings
    from bt_model.training.instruct.step import InstructStep
    from bt_model.vision.encoder import ChatFeatures, TemporalEncoder

_GATES = ("balance1", "balance2")
_SLASH = "/"  # replaces dots, which the name of a submodule cannot contain


def unfreeze(step: "InstructStep", learn: "LearnSettings", ids: "SpecialIds") -> dict[str, nn.Module]:
    """Freeze everything but what `learn` selects; the modules with trained parameters, by checkpoint part.

    LoRA's first factors are initialised from torch's global generator.

    Raises:
        InvalidValueError: nothing to learn in the temporal model, or no markers around a video.
    """
    step.requires_grad_(requires_grad=False).eval()
    learning: dict[str, nn.Module] = {}
    if learn.projector:
        learning["projector"] = step.projector.requires_grad_(requires_grad=True)
    if learn.temporal:
        learning |= _unfreeze_temporal(step.encoder, step.pool, with_gates=learn.gates)
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


def _unfreeze_temporal(
    encoder: "TemporalEncoder", pool: "Callable[[ChatFeatures], Tensor]", *, with_gates: bool
) -> dict[str, nn.Module]:
    """Unfreeze what the chat path uses; a branch's last layer, for example, is used by retrieval only."""
    parts = encoder.trainable()
    named = {
        f"{part}.{name}": weight
        for part, module in parts.items()
        for name, weight in module.named_parameters()
        if (part != "vision" or name.startswith(UNFROZEN)) and (with_gates or name not in _GATES)
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
    """The weights that receive a gradient from the chat features."""
    vision, like = encoder.tower.config, encoder.tower.class_embedding
    num_frames = 2 if getattr(encoder, "upstream_compat", False) else 1  # it needs an even number
    shape = (1, num_frames, 1 + vision.num_patches, vision.width)
    for weight in weights:
        weight.requires_grad_()
    features = encoder.chat_from_trunk([like.new_zeros(shape) for _ in encoder.chat_reads])
    total = pool(features).sum()
    found: list[Tensor | None] = list(torch.autograd.grad(total, weights, allow_unused=True))
    for weight in weights:
        weight.requires_grad_(False)
    return [weight for weight, gradient in zip(weights, found, strict=True) if gradient is not None]


class LowRank(nn.Module):
    """scale * up(down(x)); it starts at zero. (..., in) -> (..., out)."""

    def __init__(self, num_in: int, num_out: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, num_in))
        self.up = nn.Parameter(torch.zeros(num_out, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # PEFT's initialisation

    def forward(self, x: "Tensor") -> "Tensor":
        return self.scale * linear(linear(x, self.down), self.up)


class LoraLinear(nn.Linear):
    """A frozen matrix with an addition; parameter names stay those of the plain matrix."""

    def __init__(self, frozen: nn.Linear, addition: LowRank) -> None:
        super().__init__(frozen.in_features, frozen.out_features, bias=False, device="meta")
        self.weight = frozen.weight
        self.addition = addition

    def forward(self, input: "Tensor") -> "Tensor":
        return super().forward(input) + self.addition(input)


def add_lora(lm: nn.Module, learn: "LearnSettings") -> nn.ModuleDict:
    """Add LoRA to the selected matrices of every layer; returns the additions by matrix name.

    The first factors are initialised from torch's global generator.
    """
    additions = nn.ModuleDict()
    wanted = [name for name, _ in lm.named_modules() if name.rpartition(".")[2] in learn.lora_on]
    for name in wanted:
        parent, _, last = name.rpartition(".")
        frozen = lm.get_submodule(name)
        assert isinstance(frozen, nn.Linear)
        with torch.device(frozen.weight.device):
            addition = LowRank(frozen.in_features, frozen.out_features, learn.lora_rank, learn.lora_alpha)
        setattr(lm.get_submodule(parent), last, LoraLinear(frozen, addition))
        additions[name.replace(".", _SLASH)] = addition
    return additions


def additions(state: "Mapping[str, Tensor]", learn: "LearnSettings") -> dict[str, Addition]:
    """The state of `add_lora`'s modules, by the matrices' names."""
    scale = learn.lora_alpha / learn.lora_rank
    names = [name.removesuffix(".down") for name in state if name.endswith(".down")]
    return {
        name.replace(_SLASH, "."): Addition(state[f"{name}.down"], state[f"{name}.up"], scale)
        for name in names
    }
