"""Joint-ST: all tokens of all frames attend to each other in every layer of CLIP (paper 3.2).

B clips, T frames, P patches, D width.
"""

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import nn

from bt_model.vision.baselines.in_trunk import TemporalParts
from bt_model.vision.baselines.time_table import times

if TYPE_CHECKING:
    from torch import Tensor


class JointST(TemporalParts):
    """Time embeddings are added once, to the patches before the first changed layer; the CLS has none."""

    def __init__(self, dim: int, max_frames: int) -> None:
        super().__init__()
        self.max_frames = max_frames
        self.time_embed = nn.Embedding(max_frames, dim)

    def enter(self, x: "Tensor") -> "Tensor":
        cls, patches = x[:, :, :1], x[:, :, 1:]
        return torch.cat([cls, patches + times(self.time_embed, x.shape[1])], dim=2)

    def run_layer(self, k: int, layer: nn.Module, x: "Tensor") -> "Tensor":  # noqa: ARG002 - all are alike
        together = layer(rearrange(x, "b t n d -> b (t n) d"))
        return rearrange(together, "b (t n) d -> b t n d", t=x.shape[1])
