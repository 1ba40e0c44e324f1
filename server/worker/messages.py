"""Parts of the wire's messages, read and written."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from bt_model.generation.request import GenTiming
from server.engine import wire
from server.engine.usage import Usage

if TYPE_CHECKING:
    from torch import Tensor

    from server.worker.loaded import LoadedModel
    from server.worker.token_file import PooledTokens


def stats_of(model: "LoadedModel") -> dict[str, float]:
    stats = asdict(model.engine.stats())
    seconds = stats.pop("step_ms") / 1e3
    return {"engine_step_seconds": seconds, **{name: float(value) for name, value in stats.items()}}


def read_frames(shape: tuple[int, int, int, int], fd: int) -> "Tensor":
    """A private copy of the frames (T, H, W, 3); closes the descriptor."""
    try:
        data = np.fromfile(f"/proc/self/fd/{fd}", dtype=np.uint8, count=int(np.prod(shape)))
    finally:
        os.close(fd)
    return torch.from_numpy(data.reshape(shape))


def token_data(request_id: str, found: "PooledTokens") -> tuple[wire.TokenData, int]:
    """The message that hands tokens over, and the descriptor of their file, which the channel closes."""
    data = found.safetensors()
    fd = os.memfd_create("tokens", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb", closefd=False) as file:
        file.write(data)
    dtype = str(found.tokens.dtype).removeprefix("torch.")
    return wire.TokenData(request_id, len(data), list(found.tokens.shape), dtype), fd


def cancelled(request_id: str) -> wire.Done:
    """The end of an answer that no generation thread had heard of."""
    timing = GenTiming(queue=0.0, prefill=0.0, decode=0.0)
    return wire.Done(request_id, "cancelled", asdict(Usage(0, 0)), asdict(timing))
