"""The number format that a stage multiplies in; parameters, losses and optimiser stay in float32."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

Precision = Literal["float32", "bfloat16"]


def native_precision() -> Precision:
    """bfloat16 where this CPU multiplies it in hardware, at three times float32's rate; else float32."""
    can = torch.cpu.get_capabilities()
    return "bfloat16" if can.get("avx512_bf16") or can.get("amx_bf16") else "float32"


@contextmanager
def multiplying_in(precision: Precision) -> Generator[None]:
    """Let matrix products of the forward pass, and so of the backward pass, run in this format."""
    if precision == "float32":
        yield
        return
    # the CPU's fused attention has a backward pass in bfloat16 that takes seven times as long as in float32
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield
