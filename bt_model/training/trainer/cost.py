"""What training costs in arithmetic, memory and time; utilisation is arithmetic over what a device can do.

Only matrix products count, two operations for a multiplication and its addition, as model cards count them.
"""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bt_model.training.settings import Precision
from bt_model.training.trainer.optimiser import multiplying_in

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage, nn

# Dense matrix products of one GPU in TFLOP/s, as its maker's data sheet says: half precision with float32
# sums, and plain float32 (torch leaves TF32 off). The longest name that a device's own name holds counts.
PEAKS: dict[str, tuple[float, float]] = {
    "T4": (65, 8.1),
    "V100": (125, 15.7),
    "A10": (125, 31.2),
    "A30": (165, 10.3),
    "A40": (149.7, 37.4),
    "A100": (312, 19.5),
    "RTX A6000": (154.8, 38.7),
    "L4": (121, 30.3),
    "L40": (181, 90.5),
    "L40S": (362, 91.6),
    "RTX 3090": (71, 35.6),
    "RTX 4090": (165.2, 82.6),
    "H100": (989.4, 66.9),
    "H100 PCIe": (756, 51.2),
    "H100 NVL": (835, 60),
    "H200": (989.4, 66.9),
    "B200": (2250, 75),
}
_SIDE, _ROUNDS = 768, 6  # size and repetitions of the matrices that measure an unknown device


def count_flops(work: Callable[[], object]) -> float:
    """FLOPs of all matrix products in a call, which is run; nothing is computed on the meta device."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return float(counter.get_total_flops())


def peak_flops(device: torch.device, precision: Precision) -> float:
    """Peak FLOP/s of a device in this format: from the table, else by a short measurement."""
    if device.type == "cuda":
        known = table_peak(torch.cuda.get_device_name(device), precision)
        if known is not None:
            return known
    return measured_peak(device, precision)


def table_peak(name: str, precision: Precision) -> float | None:
    """The table's peak for a GPU of that name, or None; a V100 has no bfloat16."""
    words = name.replace("-", " ").split()
    fitting = [key for key in PEAKS if all(word in words for word in key.split())]
    if not fitting or ("V100" in fitting and precision == "bfloat16"):
        return None
    half, single = PEAKS[max(fitting, key=len)]
    return 1e12 * (single if precision == "float32" else half)


def measured_peak(device: torch.device, precision: Precision) -> float:
    """The fastest of a few square matrix products."""
    a, b = (torch.randn(_SIDE, _SIDE, device=device) for _ in range(2))
    seconds: list[float] = []
    with torch.no_grad(), multiplying_in(precision, device.type):
        for _ in range(_ROUNDS):
            begin = time.perf_counter()
            (a @ b)[0, 0].item()
            seconds.append(time.perf_counter() - begin)
    return 2 * _SIDE**3 / min(seconds)


def kept_bytes(forward: Callable[[], object], parameters: "Iterable[nn.Parameter]") -> int:
    """Bytes of all tensors that `forward` saves for the backward pass, without the parameters.

    Views of one storage count once, so unlike a process's memory the result is exact and reproducible. It
    works on the meta device, too.
    """
    owned = {_memory(parameter.untyped_storage()) for parameter in parameters}
    kept: dict[int, UntypedStorage] = {}  # keeps them alive, so that no id is reused

    def keep(x: "Tensor") -> "Tensor":
        storage = x.untyped_storage()
        if _memory(storage) not in owned:
            kept[_memory(storage)] = storage
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def _memory(storage: "UntypedStorage") -> int:
    """A unique id of a storage; its address would be 0 for every storage on the meta device."""
    return storage._cdata  # pyright: ignore[reportPrivateUsage] - torch has no public id
