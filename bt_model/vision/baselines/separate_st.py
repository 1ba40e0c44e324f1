"""Separate-ST: temporal attention for each patch position before each of the last K CLIP layers (paper 3.2).

B clips, T frames, P patches, D width, K layers.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.vision.baselines.in_trunk import TemporalParts
from bt_model.vision.baselines.time_table import times
from bt_model.vision.bt_adapter import TemporalLayer

if TYPE_CHECKING:
    from torch import Tensor


class SeparateST(TemporalParts):
    """The branch's temporal layers, with their zero projection, inside the trunk; the CLS bypasses them.

    One time table is added to the input of each temporal attention, not to the residual stream, so that the
    untrained model equals CLIP exactly, although the table has unit scale.
    """

    def __init__(self, dim: int, num_heads: int, eps: float, num_layers: int, max_frames: int) -> None:
        super().__init__()
        self.max_frames = max_frames
        self.time_embed = nn.Embedding(max_frames, dim)
        self.temporal = nn.ModuleList(TemporalLayer(dim, num_heads, eps) for _ in range(num_layers))

    def run_layer(self, k: int, layer: nn.Module, x: "Tensor") -> "Tensor":
        cls, patches = x[:, :, :1], x[:, :, 1:]
        seen = self.temporal[k](patches, times(self.time_embed, x.shape[1]))
        return layer(torch.cat([cls, seen], dim=2))
