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

    from server.worker.models import LoadedModel


def stats_of(model: "LoadedModel") -> dict[str, float]:
    stats = asdict(model.engine.stats())
    seconds = stats.pop("step_ms") / 1e3
    return {"engine_step_seconds": seconds, **{name: float(value) for name, value in stats.items()}}


def read_frames(message: wire.Encode, fd: int) -> "Tensor":
    """A private copy of the frames (T, H, W, 3); closes the descriptor."""
    shape = (message.num_frames, message.height, message.width, 3)
    try:
        data = np.fromfile(f"/proc/self/fd/{fd}", dtype=np.uint8, count=int(np.prod(shape)))
    finally:
        os.close(fd)
    return torch.from_numpy(data.reshape(shape))


def cancelled(request_id: str) -> wire.Done:
    """The end of an answer that no generation thread had heard of."""
    timing = GenTiming(queue=0.0, prefill=0.0, decode=0.0)
    return wire.Done(request_id, "cancelled", asdict(Usage(0, 0)), asdict(timing))
