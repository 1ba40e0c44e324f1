"""Low-rank additions to a decoder's matrices, in PEFT's folder layout: read, and added to the weights.

R rank; a matrix (out, in) gets scale * up (out, R) @ down (R, in).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bt_model.checkpoints.weights import open_weights
from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_PLAIN = ("use_rslora", "use_dora", "fan_in_fan_out")  # variants that scale or store otherwise


@dataclass(frozen=True, slots=True)
class Addition:
    """What is added to one matrix."""

    down: "Tensor"
    up: "Tensor"
    scale: float

    def to(self, weight: "Tensor") -> "Tensor":
        """The weight (out, in) with the addition, computed in float32, in its own number format."""
        return (weight.float() + self.scale * self.up.float() @ self.down.float()).to(weight.dtype)


def published_names(matrix: str) -> tuple[str, str]:
    """What PEFT calls the two parts of a matrix's addition, down and up."""
    return f"base_model.model.{matrix}.lora_A.weight", f"base_model.model.{matrix}.lora_B.weight"


def read_lora(folder: Path) -> dict[str, Addition]:
    """The additions in a folder, by the name of the matrix (`model.layers.0.self_attn.q_proj`).

    Raises:
        CheckpointError: files that are missing or damaged, an up or down matrix alone, or another variant.
    """
    scale = _scale(folder)
    weights = open_weights(folder / WEIGHTS)
    found: dict[str, dict[str, Tensor]] = {}
    for name in weights:
        match = _NAME.fullmatch(name)
        if match is None:
            raise CheckpointError(f"{weights.where}: {name!r} is no part of a low-rank addition")
        found.setdefault(match[1], {})[match[2]] = weights.parameter(name)
    for name, parts in found.items():
        if set(parts) != {"A", "B"} or parts["A"].shape[0] != parts["B"].shape[1]:
            raise CheckpointError(f"{weights.where}: {name}: lora_A and lora_B do not belong together")
    return {name: Addition(parts["A"], parts["B"], scale) for name, parts in found.items()}


def _scale(folder: Path) -> float:
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in _PLAIN if config.get(name)]
        if other:
            raise CheckpointError(f"{path}: {other[0]} is true; allowed: false")
        return float(config["lora_alpha"]) / float(config["r"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: not a readable LoRA configuration ({error!r})") from error


def merge_lora(lm: nn.Module, additions: Mapping[str, Addition], where: Path) -> None:
    """Add to a decoder's matrices, in place.

    Raises:
        CheckpointError: a matrix that the decoder does not have, or has in another shape.
    """
    for name, addition in additions.items():
        try:
            linear = lm.get_submodule(name)
        except AttributeError as error:
            raise CheckpointError(f"{where}: {name}: the decoder has no such matrix") from error
        shape = (addition.up.shape[0], addition.down.shape[1])
        if not isinstance(linear, nn.Linear) or linear.weight.shape != shape:
            raise CheckpointError(f"{where}: {name}: {shape} does not fit the decoder's")
        with torch.no_grad():
            linear.weight = nn.Parameter(addition.to(linear.weight), requires_grad=False)
