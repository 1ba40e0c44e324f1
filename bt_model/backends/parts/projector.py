"""The projector from vision features to the LLM's width: one linear layer, or two around a GELU."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.checkpoints.load import load_part

if TYPE_CHECKING:
    from bt_model.backends.base import BackendFiles

_STD = 0.02


def load_projector(files: "BackendFiles", in_dim: int, out_dim: int) -> nn.Module:
    """The projector of a model, (..., in_dim) -> (..., out_dim); its kind follows from the tensors.

    Where its widths differ from the model's and `accept` allows it, an untrained one of the right widths.

    Raises:
        CheckpointError: tensors that are missing, unexpected or wrongly shaped.
    """
    checkpoint = files.needed("projector")
    has_two = any(name.startswith("0.") for name in checkpoint.shapes("projector"))
    with torch.device("meta"):
        first = nn.Linear(in_dim, out_dim)
        projector = nn.Sequential(first, nn.GELU(), nn.Linear(out_dim, out_dim)) if has_two else first
    if {"projector_in", "projector_out"} & set(files.untrained):
        projector = projector.to_empty(device="cpu")
        draw(projector.parameters())
    else:
        load_part(projector, checkpoint, "projector")
    return projector.to(files.device, files.dtype).eval().requires_grad_(requires_grad=False)


@torch.no_grad()
def draw(weights: "Iterable[nn.Parameter]") -> None:
    """Initialise weights with a fixed seed; vectors get small random values, not zeros."""
    generator = torch.Generator().manual_seed(0)
    for weight in weights:
        nn.init.normal_(weight, std=_STD, generator=generator)
