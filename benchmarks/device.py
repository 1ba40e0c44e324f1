"""A device for benchmarks: what it can do, how long a call takes there, and how much memory."""

import gc
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where and in which format, and what the device can do."""

    device: torch.device
    dtype: torch.dtype
    bytes_per_second: float
    flops_per_second: float

    def new(self, make: Callable[[], nn.Module]) -> Any:
        """A module made there, with random weights."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with torch.device(self.device):
                return make().eval().requires_grad_(requires_grad=False)
        finally:
            torch.set_default_dtype(before)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, dtype=self.dtype)


def copy_rate(num_bytes: int, device: torch.device) -> float:
    """Bytes read and written a second."""
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / seconds_of(lambda: target.copy_(source), device)


def product_rate(side: int, device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: one @ other, device)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """The median of several calls, each to its end."""
    times: list[float] = []
    for _ in range(WARM_UP + repeats):
        synchronise(device)
        begin = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - begin)
    return median(times[WARM_UP:])


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def memory_of(device: torch.device, into: dict[str, Any]) -> Generator[None]:
    """The peak of what torch holds, in GB; 0 on a CPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield
    into["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0
