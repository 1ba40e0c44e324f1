"""What brings vision features to the width of the LLM: one linear layer, or two around a GELU."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.checkpoints.load import load_part, shapes_of

if TYPE_CHECKING:
    from bt_model.backends.files import BackendFiles


def load_projector(files: "BackendFiles", in_dim: int, out_dim: int) -> nn.Module:
    """The projector of a model, (..., in_dim) -> (..., out_dim); its kind is read off the file.

    Raises:
        CheckpointError: tensors that are missing, unexpected or wrongly shaped.
    """
    has_two = any(name.startswith("0.") for name in shapes_of(files.projector, "projector"))
    with torch.device("meta"):
        first = nn.Linear(in_dim, out_dim)
        projector = nn.Sequential(first, nn.GELU(), nn.Linear(out_dim, out_dim)) if has_two else first
    load_part(projector, files.projector, "projector")
    return projector.to(files.device, files.dtype).eval().requires_grad_(requires_grad=False)
