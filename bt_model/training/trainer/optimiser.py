"""AdamW's numbers: which rate each parameter learns at, how long a run is, how its rate rises and falls.

The longest name that a parameter's own name contains decides its rate, as published.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bt_model.errors import InvalidValueError
from bt_model.training.trainer.precision import Precision

if TYPE_CHECKING:
    from torch import nn

BASE = "base"
ADAM_BYTES = 16  # a learning parameter: itself, gradient, two moments, all float32


def rule_of(name: str, rates: Mapping[str, float]) -> str:
    """The rule for a parameter: the longest that its name contains, of equal ones the first by alphabet."""
    return min((rule for rule in rates if rule in name), key=lambda rule: (-len(rule), rule), default=BASE)


def parameter_groups(
    learning: "Mapping[str, nn.Module]", rate: float, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """AdamW's groups, one a rule that is used; parameters are named `<part>.<name>` (checkpoints/keys.py).

    Raises:
        InvalidValueError: a rule that no parameter's name contains.
    """
    named = {
        f"{part}.{name}": parameter
        for part, module in learning.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }
    unused = [rule for rule in rates if not any(rule in name for name in named)]
    if unused:
        allowed = sorted({".".join(name.split(".")[:2]) for name in named})
        raise InvalidValueError(
            f"optimiser.rates has {unused[0]!r}; allowed: part of a name, {', '.join(allowed)}",
            param="optimiser.rates",
        )
    factors = {BASE: 1.0, **rates}
    by_rule: dict[str, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        by_rule.setdefault(rule_of(name, rates), []).append(parameter)
    return [{"name": rule, "params": found, "lr": rate * factors[rule]} for rule, found in by_rule.items()]


def described(groups: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How many parameters each group has, and its rate."""
    return {
        group["name"]: {"parameters": sum(p.numel() for p in group["params"]), "rate": group["lr"]}
        for group in groups
    }


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length, peak learning rate and AdamW's numbers; the rate warms up, then follows half a cosine.

    `warmup`: share of the run; `warmup_from`: the rate's share at its first step, None for one step's worth.
    `period`: how much of the run half a cosine takes, None for the rest of it: the published schedule warms
    up over half an epoch and cuts a half cosine of 4.5 epochs after the first (training spec 1.1).
    `floor`: the share of the peak where the half cosine ends. `accumulate`: parts of a step, each with a
    forward and a backward pass of its own.
    """

    num_steps: int
    learning_rate: float
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    precision: Precision = "float32"
    warmup: float = 0.05
    warmup_from: float | None = None
    period: float | None = None
    floor: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    accumulate: int = 1

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at a step."""
        rising = max(1, int(self.warmup * self.num_steps))
        if step < rising:
            first = 1 / rising if self.warmup_from is None else self.warmup_from
            return first + (1 - first) * step / max(1, rising - 1)
        period = self.num_steps - rising if self.period is None else self.period * self.num_steps
        done = min(1.0, (step - rising) / max(1, period))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))
