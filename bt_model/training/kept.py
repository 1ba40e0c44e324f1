"""How much memory a forward pass keeps for the backward pass: what grows with the batch."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from torch.autograd.graph import saved_tensors_hooks

if TYPE_CHECKING:
    from torch import Tensor, nn


def kept_bytes(forward: "Callable[[], Tensor]", parameters: "Iterable[nn.Parameter]") -> int:
    """Bytes of everything that `forward` keeps, without the parameters, which are there anyway.

    Views of one memory count once, so the figure is exact and the same on every run; a process's own memory
    holds whatever ran in it before.
    """
    owned = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, Tensor] = {}  # holds them, so that no two lie in the same place

    def keep(x: "Tensor") -> "Tensor":
        place = x.untyped_storage().data_ptr()
        if place not in owned:
            kept[place] = x
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        forward()
    return sum(x.untyped_storage().nbytes() for x in kept.values())
