"""What a backend is built from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bt_model.types import GenerateOptions, Quantise

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class BackendFiles:
    """Places of a backend's weights, and what the model file says of it."""

    llm: Path
    projector: Path
    template: str
    num_video_tokens: int
    video_dim: int
    defaults: GenerateOptions
    device: "torch.device"
    dtype: "torch.dtype"
    qformer: Path | None = None
    entry: str = "clip"
    quantise: Quantise = "none"
    untrained: tuple[str, ...] = ()  # checks (checkpoints/fit.py) whose parts are drawn anew instead of read
    lora: Path | None = None
