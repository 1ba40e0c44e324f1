"""Low-rank additions that learn beside a decoder's frozen matrices, and the folder that serving reads.

R rank; layouts and names are those of bt_model/backends/parts/lora.py.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import linear

from bt_model.atomic_files import write_json
from bt_model.backends.parts.lora import CONFIG, WEIGHTS, published_names

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.training.instruct.config import LearnSettings

_SLASH = "/"  # stands for the dots of a name, which a module's own name cannot have


class LowRank(nn.Module):
    """scale * up(down(x)); it starts at zero. (..., in) -> (..., out)."""

    def __init__(self, num_in: int, num_out: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, num_in))
        self.up = nn.Parameter(torch.zeros(num_out, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as PEFT starts it

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
    """Put additions beside the wanted matrices of every layer; they are returned by the matrices' names.

    The first factors are drawn from torch's global generator.
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


def matrices(state: "Mapping[str, Tensor]") -> "dict[str, tuple[Tensor, Tensor]]":
    """The state of `add_lora`'s modules as (down, up) by the matrix's name."""
    names = [name.removesuffix(".down") for name in state if name.endswith(".down")]
    return {name.replace(_SLASH, "."): (state[f"{name}.down"], state[f"{name}.up"]) for name in names}


def save_lora(folder: Path, state: "Mapping[str, Tensor]", learn: "LearnSettings") -> None:
    """Write additions in PEFT's layout; the configuration comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, parts in matrices(state).items():
        tensors |= dict(zip(published_names(name), (part.contiguous() for part in parts), strict=True))
    part = folder / f".{WEIGHTS}.part"
    save_file(tensors, part, metadata={"format": "pt"})
    part.chmod(0o644)
    part.replace(folder / WEIGHTS)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": learn.lora_rank,
        "lora_alpha": learn.lora_alpha,
        "target_modules": list(learn.lora_on),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    write_json(folder / CONFIG, config)
