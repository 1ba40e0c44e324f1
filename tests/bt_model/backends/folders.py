"""What a backend is built from, out of the tiny model folder."""

from pathlib import Path

import torch

from bt_model.backends.base import BackendFiles
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.types import GenerateOptions
from tests import tiny


def files(folder: Path, *, projector: Path | None = None, style: str = "plain") -> BackendFiles:
    llm = open_checkpoint(folder / "llava_video")
    return BackendFiles(
        llm=llm,
        projector=llm if projector is None else open_checkpoint(projector),
        template=style,
        num_video_tokens=tiny.P + 1,
        video_dim=tiny.D,
        defaults=GenerateOptions(temperature=0.0),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
