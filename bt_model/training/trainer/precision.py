"""The number format that a stage multiplies in, and which activations are computed a second time.

Parameters, losses and optimiser stay in float32.
"""

import math
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_FIRST_SCALE = 2.0**16
_GROWTH_STEPS = 2000  # without an overflow, then the scale doubles


def native_precision() -> Precision:
    """bfloat16 where this CPU multiplies it in hardware, at three times float32's rate; else float32."""
    can = torch.cpu.get_capabilities()
    return "bfloat16" if can.get("avx512_bf16") or can.get("amx_bf16") else "float32"


@contextmanager
def multiplying_in(precision: Precision, device: str = "cpu") -> Generator[None]:
    """Let matrix products of the forward pass, and so of the backward pass, run in this format.

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
    """The CPU's fused attention has a backward pass in bfloat16 that takes seven times as long as float32."""
    return sdpa_kernel(SDPBackend.MATH)


@dataclass(slots=True)
class LossScale:
    """Keeps float16 gradients above the smallest number there is: the loss is scaled up, gradients down.

    An overflow halves the scale and the step is not taken; it doubles after 2000 steps without one. Whether
    there was one is read from the norm over all ranks' gradients, so that all ranks decide alike.
    """

    value: float = 1.0
    good_steps: int = 0
    is_dynamic: bool = False

    @classmethod
    def of(cls, precision: Precision) -> "LossScale":
        """float16 scales; the other formats have float32's range."""
        return cls(_FIRST_SCALE, is_dynamic=True) if precision == "float16" else cls()

    def up(self, loss: "Tensor") -> "Tensor":
        """The loss to differentiate."""
        return loss * self.value if self.is_dynamic else loss

    def down(self, gradients: "Sequence[Tensor]") -> None:
        """Bring gradients back to the loss's own scale, in place."""
        if self.is_dynamic:
            for gradient in gradients:
                gradient.mul_(1 / self.value)

    def is_good(self, norm: float) -> bool:
        """Whether the step may be taken; adapts the scale."""
        if not self.is_dynamic:
            return True
        if not math.isfinite(norm):
            self.value, self.good_steps = self.value / 2, 0
            return False
        self.good_steps += 1
        if self.good_steps == _GROWTH_STEPS:
            self.value, self.good_steps = 2 * self.value, 0
        return True


def recompute(module: nn.Module, units: tuple[type[nn.Module], ...]) -> None:
    """From now on, only the inputs of these kinds of modules are kept for the backward pass.

    Their outputs and gradients stay what they are: dropout draws the same again. Call it before the module
    is spread over processes.
    """
    for unit in module.modules():
        if isinstance(unit, units):
            unit.forward = partial(checkpoint, unit.forward, use_reentrant=False, context_fn=_contexts)


def _contexts() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """Of the forward pass and of its repetition, which must take the attention that `multiplying_in` took."""
    is_plain = torch.is_autocast_enabled("cpu")
    return nullcontext(), plain_attention() if is_plain else nullcontext()
