"""How much memory a forward pass keeps for the backward pass: what grows with the batch."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from torch.autograd.graph import saved_tensors_hooks

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage, nn


def kept_bytes(forward: Callable[[], object], parameters: "Iterable[nn.Parameter]") -> int:
    """Bytes of everything that `forward` keeps, without the parameters, which are there anyway.

    Views of one memory count once, so the figure is exact and the same on every run; a process's own memory
    holds whatever ran in it before. Tensors without contents, on the meta device, are counted alike.
    """
    owned = {_memory(parameter.untyped_storage()) for parameter in parameters}
    kept: dict[int, UntypedStorage] = {}  # holds them, so that none is freed and another takes its number

    def keep(x: "Tensor") -> "Tensor":
        storage = x.untyped_storage()
        if _memory(storage) not in owned:
            kept[_memory(storage)] = storage
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def _memory(storage: "UntypedStorage") -> int:
    """A number that no other memory has; an address would be 0 for all that has no contents."""
    return storage._cdata  # pyright: ignore[reportPrivateUsage] - torch tells it nowhere else
