# pyright: reportPrivateUsage=false
"""A GPU that this machine does not have: tensors on cuda:0 whose numbers lie in a CPU's memory.

What CUDA would refuse is refused: an operator over tensors of both devices. What costs time there is counted:
kernels, one for each operator that computes; uploads; and reads, for which the host waits until the device
has done all that it was given. Sizes that depend on values are reads too.
"""

import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.bias import CausalBias
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda:0")

# composite operators that have kernels of their own on CUDA
_WHOLE = {"aten::linear", "aten::rms_norm", "aten::scaled_dot_product_attention"}
_READS = {
    "aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::masked_select", "aten::bincount",
    "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive",
}  # fmt: skip
_COPIES = {"aten::_to_copy", "aten::copy_"}
_INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_FREE = {
    "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided",
    "aten::lift_fresh", "aten::detach_", "aten::set_", "aten::_local_scalar_dense",
}  # fmt: skip


class MixedDevicesError(RuntimeError):
    """An operator was given tensors of the device and of the host."""


@dataclass(slots=True)
class Traffic:
    """What the device was made to do."""

    kernels: Counter[str] = field(default_factory=Counter[str])
    uploads: int = 0
    reads: int = 0

    @property
    def num_kernels(self) -> int:
        return self.kernels.total()


class DeviceTensor(Tensor):
    """A tensor that says it is on cuda:0, around one on the CPU."""

    held: Tensor

    def __new__(cls, held: Tensor) -> "DeviceTensor":
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CUDA,
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"{self.held} on {CUDA}"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if any(not issubclass(cls, other) for other in types):
            return NotImplemented  # a class with ways of its own
        own = _METHODS.get(func, func)
        with torch._C.DisableTorchFunctionSubclass():
            return own(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on a pretended device outside of it")


class PretendedCuda:
    """The device, and what it was made to do."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._is_counting = True

    @contextmanager
    def counted(self) -> Generator[Traffic]:
        """What happens inside, counted from zero."""
        before, self.traffic = self.traffic, Traffic()
        try:
            yield self.traffic
        finally:
            self.traffic = before

    @contextmanager
    def one_operator(self, name: str, num_kernels: int = 1) -> Generator[None]:
        """What is computed inside stands for an operator of so many kernels."""
        self.traffic.kernels[name] += num_kernels
        before, self._is_counting = self._is_counting, False
        try:
            yield
        finally:
            self._is_counting = before

    def compute(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """One operator that is not made of others."""
        name = _name(func)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        target = kwargs.get("device")
        if name not in _COPIES:
            _refuse_mixture(name, given)
        is_there = any(map(_is_there, given)) if target is None else torch.device(target).type == CUDA.type
        if self._is_counting:
            self._count(func, given, is_there=is_there)
        held = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        known = {id(_held(x)): x for x in given}  # operators that write give back what they were given
        return tree_map(lambda x: known[id(x)] if id(x) in known else _placed(x, is_there=is_there), held)

    def _count(self, func: Any, given: Sequence[Tensor], *, is_there: bool) -> None:
        name, traffic = _name(func), self.traffic
        if name in _COPIES:
            source, target = _is_there(given[-1]), _is_there(given[0]) if len(given) > 1 else is_there
            traffic.uploads += target and not source
            traffic.reads += source and not target
            if target and source:
                traffic.kernels[name] += 1
        elif is_there or any(map(_is_there, given)):
            is_by_mask = name in _INDEXED and any(x.dtype is torch.bool for x in given[1:])
            traffic.reads += name in _READS or is_by_mask
            if name not in _FREE and not func.is_view:
                traffic.kernels[name] += 1


class _Mode(TorchDispatchMode):
    """Brings a thread's operators before the device."""

    # torch then takes a device on trust, as it does for its own fake tensors
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __init__(self, device: PretendedCuda) -> None:
        super().__init__()
        self._device = device

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and torch would import its compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _name(func) not in _WHOLE and func._can_decompose():
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return self._device.compute(func, args, kwargs or {})


@contextmanager
def pretended_cuda() -> Generator[PretendedCuda]:
    """The device, for this thread and those that it starts inside."""
    device, run = PretendedCuda(), threading.Thread.run
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()

    def run_with_device(self: threading.Thread) -> None:
        with _on_this_thread(device):
            run(self)

    threading.Thread.run = run_with_device
    CausalBias.__new__ = _made_outside
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # parameters change their class
    try:
        with _on_this_thread(device):
            yield device
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
        threading.Thread.run = run
        del CausalBias.__new__


@contextmanager
def _on_this_thread(device: PretendedCuda) -> Generator[None]:
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) comes before the mode
    try:
        with torch._C._AutoDispatchBelowAutograd(), _Mode(device):  # for gradients torch asks the driver
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)


def _get(x: Tensor, key: Any) -> Tensor:
    view, indices = _indexed(x, key)
    return view if not indices else torch.ops.aten.index(view, indices)


def _set(x: Tensor, key: Any, value: Any) -> None:
    view, indices = _indexed(x, key)
    value = value if isinstance(value, Tensor) else torch.tensor(value, dtype=x.dtype)
    if indices:
        torch.ops.aten.index_put_(view, indices, value)
    else:
        torch.ops.aten.copy_(view, value)


def _indexed(x: Tensor, key: Any) -> tuple[Tensor, list[Tensor | None]]:
    """A view by the key's numbers, slices and new axes, and the tensors that index it."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if any(part is ... for part in parts):
        at = next(i for i, part in enumerate(parts) if part is ...)
        taken = sum(part is not None for part in parts) - 1
        parts[at : at + 1] = [slice(None)] * (x.dim() - taken)
    indices: list[Tensor | None] = []
    dim = 0
    for part in parts:
        if isinstance(part, int):
            x = x.select(dim, part)
            continue
        if part is None:
            x = x.unsqueeze(dim)
        elif isinstance(part, slice):
            x = torch.ops.aten.slice(x, dim, part.start, part.stop, part.step or 1)
        else:
            index = part if isinstance(part, Tensor) else torch.tensor(part, device=x.device)
            indices += [None] * (dim - len(indices)) + [index]
        dim += 1
    return x, indices


# what torch's own methods do before an operator is called asks the driver
_METHODS: dict[Any, Callable[..., Any]] = {
    Tensor.tolist: lambda x: x.cpu().tolist(),
    Tensor.__float__: lambda x: float(x.item()),
    Tensor.__int__: lambda x: int(x.item()),
    Tensor.__getitem__: _get,
    Tensor.__setitem__: _set,
    Tensor.contiguous: torch.ops.aten.contiguous,
    Tensor.copy_: torch.ops.aten.copy_,
    Tensor.new_tensor: lambda x, data: torch.tensor(data, dtype=x.dtype, device=x.device),
    Tensor.nonzero: torch.ops.aten.nonzero,
}


def _made_outside(cls: type[Tensor], *_: object) -> Tensor:
    """A class of torch's cannot take what a mode has made for its own."""
    with _disable_current_modes():
        return Tensor.__new__(cls)


def _name(func: Any) -> str:
    return func.name().partition(".")[0]


def _is_there(x: Any) -> bool:
    return isinstance(x, DeviceTensor)


def _held(x: Any) -> Any:
    if isinstance(x, torch.device):
        return torch.device("cpu")
    return x.held if isinstance(x, DeviceTensor) else x


def _placed(x: Any, *, is_there: bool) -> Any:
    if not (is_there and isinstance(x, Tensor)):
        return x
    with torch.inference_mode(x.is_inference()):
        return DeviceTensor(x)


def _refuse_mixture(name: str, given: Sequence[Tensor]) -> None:
    """As on CUDA, a number from the host may stand beside tensors of the device."""
    strangers = [x for x in given if not _is_there(x) and x.dim()]
    if strangers and any(map(_is_there, given)):
        raise MixedDevicesError(f"{name}: a tensor {tuple(strangers[0].shape)} of the host on the device")
