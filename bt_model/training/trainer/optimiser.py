"""How a step is taken: AdamW's groups and course, the number format, and what is computed a second time.

The longest name that a parameter's own name contains decides its rate, as published. Parameters, losses and
optimiser stay in float32, whatever the matrix products run in.
"""

import math
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from bt_model.errors import InvalidValueError
from bt_model.training.settings import OptimiserSettings, Precision


def native_precision() -> Precision:
    """bfloat16 where this CPU multiplies it in hardware, at three times float32's rate; else float32."""
    can = torch.cpu.get_capabilities()
    return "bfloat16" if can.get("avx512_bf16") or can.get("amx_bf16") else "float32"


@contextmanager
def multiplying_in(precision: Precision, device: str = "cpu") -> Generator[None]:
    """Autocast: matrix products of the forward pass, and so of the backward pass, use this format.

    `device` is the type of device that the products run on.
    """
    if precision == "float32":
        yield
        return
    with torch.autocast(device, getattr(torch, precision)):
        if device != "cpu":
            yield
            return
        with plain_attention():
            yield


def plain_attention() -> AbstractContextManager[object]:
    """Disable fused attention: its bfloat16 backward pass takes seven times as long as float32 on a CPU."""
    return sdpa_kernel(SDPBackend.MATH)


def loss_scaler(precision: Precision, device: str) -> torch.amp.GradScaler:
    """Keeps float16 gradients above the smallest number there is; other formats have float32's range.

    An overflow halves the scale and the step is not taken; it doubles after 2000 steps without one.
    """
    return torch.amp.GradScaler(device, init_scale=2.0**16, enabled=precision == "float16")


def recompute(module: nn.Module, units: tuple[type[nn.Module], ...]) -> None:
    """From now on, only the inputs of these kinds of modules are kept for the backward pass.

    Outputs and gradients do not change: dropout repeats its random numbers. Call it before `spread`.
    """
    for unit in module.modules():
        if isinstance(unit, units):
            unit.forward = partial(checkpoint, unit.forward, use_reentrant=False, context_fn=_contexts)


def _contexts() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """Contexts of the forward pass and its repetition, which must use the same attention kernel."""
    is_plain = torch.is_autocast_enabled("cpu")
    return nullcontext(), plain_attention() if is_plain else nullcontext()


BASE = "base"
ADAM_BYTES = 16  # a learning parameter: itself, gradient, two moments, all float32


def rule_of(name: str, rates: Mapping[str, float]) -> str:
    """The rule for a parameter: the longest that its name contains; ties are decided alphabetically."""
    return min((rule for rule in rates if rule in name), key=lambda rule: (-len(rule), rule), default=BASE)


def parameter_groups(
    learning: Mapping[str, nn.Module], rate: float, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """AdamW's parameter groups, one for each matching rule; names are `<part>.<name>` (layouts/key_map.py).

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
    """Length, peak learning rate and AdamW's settings; the rate warms up, then follows half a cosine.

    `warmup`: share of the run; `warmup_from`: the rate's share at its first step, None for one step's worth.
    `period`: how much of the run half a cosine takes, None for the rest of it: the published schedule warms
    up over half an epoch and cuts a half cosine of 4.5 epochs after the first.
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


def schedule_of(
    given: OptimiserSettings,
    precision: Precision,
    steps_per_epoch: int,
    *,
    warmup: float,
    warmup_from: float | None = None,
    period: float | None = None,
) -> Schedule:
    """The schedule of a run's settings; how its rate warms up and falls is the stage's own."""
    return Schedule(
        num_steps=given.epochs * steps_per_epoch, learning_rate=given.rate, weight_decay=given.weight_decay,
        clip_norm=given.clip_norm, precision=precision, warmup=warmup, warmup_from=warmup_from, period=period,
        floor=given.floor, betas=(given.beta1, given.beta2), eps=given.eps, accumulate=given.accumulate,
    )  # fmt: skip
