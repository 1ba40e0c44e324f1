"""The number format that a stage multiplies in, and which activations are computed a second time.

Parameters, losses and optimiser stay in float32.
"""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


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


def loss_scaler(precision: Precision, device: str) -> torch.amp.GradScaler:
    """Keeps float16 gradients above the smallest number there is; other formats have float32's range.

    An overflow halves the scale and the step is not taken; it doubles after 2000 steps without one.
    """
    return torch.amp.GradScaler(device, init_scale=2.0**16, enabled=precision == "float16")


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
