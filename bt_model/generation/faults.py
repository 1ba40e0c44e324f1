"""Which errors of a device leave nothing in this process that works."""

import torch


def breaks_device(error: BaseException | None) -> bool:
    """Whether every later use of the accelerator will fail too; lack of memory is no such error."""
    if error is None or isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and "CUDA error" in str(error)
    )
