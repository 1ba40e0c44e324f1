"""A decoder's linear layers as a step of the engine computes them: rows (N, inputs) -> (N, outputs).

On a CPU oneDNN multiplies by a matrix that was laid out for it once, at twice the pace of `F.linear` and
more. The operators are torch's own but not public, so they are tried against `F.linear` before they are used.
"""

import time
from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Linear = Callable[[Tensor], Tensor]
MIN_ROWS = 2  # one row alone takes another path through oneDNN, with other rounding
_PROBE_ROWS, _PROBE_WIDTH, _PROBE_MATRICES = 16, 512, 24  # more bytes than caches hold
_TOLERANCE = 1e-4


class PackedLinear:
    """A matrix (outputs, inputs) in oneDNN's own layout, perhaps with a bias (outputs,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._bias = bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())

    def __call__(self, rows: Tensor) -> Tensor:
        """At least MIN_ROWS rows, so that a row's result depends on that row alone."""
        return torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")


class PlainLinear:
    """A matrix (outputs, inputs) as it is, perhaps with a bias (outputs,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, rows: Tensor) -> Tensor:
        return F.linear(rows, self._weight, self._bias)


def merge(layers: Sequence[nn.Module], *, keep: bool) -> Linear:
    """Several layers over the same rows as one; their own weights are released unless they are kept.

    Quantised layers stay as they are.
    """
    if not all(type(layer) is nn.Linear for layer in layers):
        return lambda rows: torch.cat([layer(rows) for layer in layers], dim=1)
    matrices = [layer for layer in layers if isinstance(layer, nn.Linear)]
    weights = [layer.weight.detach() for layer in matrices]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    linear = linear_of(weight, _merged_bias(matrices))
    if not keep:
        for layer in matrices:
            layer.weight.data = weight.new_empty(0)
    return linear


def _merged_bias(layers: Sequence[nn.Linear]) -> Tensor | None:
    biases = [layer.bias.detach() for layer in layers if "bias" in layer.state_dict()]
    if not biases:
        return None
    assert len(biases) == len(layers), "layers over the same rows have all a bias, or none"
    return torch.cat(biases)


def linear_of(weight: Tensor, bias: Tensor | None = None) -> Linear:
    """The fastest way to multiply by this matrix that is right on this machine."""
    is_packed = weight.device.type == "cpu" and weight.dtype == torch.float32 and packing_pays()
    return (PackedLinear if is_packed else PlainLinear)(weight, bias)


@cache
def packing_pays() -> bool:
    """Whether packed matrices are right here, and faster out of memory, as in a step, than plain ones."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(_PROBE_ROWS, _PROBE_WIDTH, generator=generator)
    weights = torch.randn(_PROBE_MATRICES, 4 * _PROBE_WIDTH, _PROBE_WIDTH, generator=generator)
    plain = [PlainLinear(weight) for weight in weights]
    with torch.inference_mode():
        try:
            packed = [PackedLinear(weight) for weight in weights]
            is_right = torch.allclose(
                packed[0](rows), plain[0](rows), atol=_TOLERANCE * _PROBE_WIDTH**0.5, rtol=0
            )
        except (AttributeError, RuntimeError):
            return False
        return is_right and _seconds(packed, rows) < _seconds(plain, rows)


def _seconds(linears: Sequence[Linear], rows: Tensor) -> float:
    """The better of two rounds over all matrices."""
    times: list[float] = []
    for _ in range(2):
        begin = time.perf_counter()
        for linear in linears:
            linear(rows)
        times.append(time.perf_counter() - begin)
    return min(times)
