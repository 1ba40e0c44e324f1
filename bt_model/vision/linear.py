"""Linear layers of the towers, which multiply at oneDNN's pace where they only serve.

On a CPU `F.linear` takes twice as long in float32. The operator is torch's own but not public, so it is tried
against `F.linear` before it is used.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

_PROBE_ROWS, _PROBE_WIDTH = 256, 768
_TOLERANCE = 1e-4


class Linear(nn.Linear):
    """nn.Linear; in inference mode, for float32 on a CPU, by the faster operator. Shapes as there."""

    def forward(self, input: "Tensor") -> "Tensor":
        is_served = torch.is_inference_mode_enabled() and input.device.type == "cpu"
        if is_served and input.dtype == self.weight.dtype == torch.float32 and onednn_pays():
            return _onednn(input, self.weight, self.bias)
        return F.linear(input, self.weight, self.bias)


def _onednn(rows: "Tensor", weight: "Tensor", bias: "Tensor | None") -> "Tensor":
    return torch.ops.mkldnn._linear_pointwise(rows.contiguous(), weight, bias, "none", [], "")


@cache
def onednn_pays() -> bool:
    """Whether the operator is right here, and faster."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(_PROBE_ROWS, _PROBE_WIDTH, generator=generator)
    weight = torch.randn(4 * _PROBE_WIDTH, _PROBE_WIDTH, generator=generator)
    with torch.inference_mode():
        try:
            error = (_onednn(rows, weight, None) - F.linear(rows, weight)).abs().max()
        except (AttributeError, RuntimeError):
            return False
        is_right = bool(error < _TOLERANCE * _PROBE_WIDTH**0.5)
        return is_right and _seconds(_onednn, rows, weight) < _seconds(F.linear, rows, weight)


def _seconds(
    multiply: "Callable[[Tensor, Tensor, Tensor | None], Tensor]", rows: "Tensor", weight: "Tensor"
) -> float:
    """The best of some runs."""
    times: list[float] = []
    for _ in range(5):
        begin = time.perf_counter()
        multiply(rows, weight, None)
        times.append(time.perf_counter() - begin)
    return min(times)
