"""How long a run is, and how its learning rate rises and falls; the optimiser's other numbers."""

import math
from dataclasses import dataclass

from bt_model.training.precision import Precision


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
