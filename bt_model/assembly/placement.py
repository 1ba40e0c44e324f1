"""A model's device and the number formats of its parts."""

import re
from dataclasses import dataclass

import torch

from bt_model.errors import BtchatError
from bt_model.types import DTYPES, Quantise


@dataclass(frozen=True, slots=True)
class Placement:
    """A model's device and number format; `quantise` applies to the decoder's matrices alone."""

    device: torch.device
    dtype: torch.dtype
    quantise: Quantise = "none"

    @classmethod
    def pick(cls, device: str = "auto", dtype: str | None = None, quantise: Quantise = "none") -> "Placement":
        """`auto` is the GPU if there is one; the default dtype is bfloat16 on a GPU, float32 on a CPU.

        Raises:
            BtchatError: a device that this machine does not have, or an unknown dtype.
        """
        place = pick_device(device)
        chosen = dtype or ("float32" if place.type == "cpu" else "bfloat16")
        if chosen not in DTYPES:
            raise BtchatError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}", param="dtype")
        return cls(place, getattr(torch, chosen), quantise)


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        BtchatError: a device that this machine does not have.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise BtchatError(f"device is {name!r}; allowed: auto, cpu, cuda, cuda:0, cuda:1 …", param="device")
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        device = torch.device(chosen)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BtchatError(f"device is {name!r}; it cannot be used here: {reason}", param="device") from error
    return device
