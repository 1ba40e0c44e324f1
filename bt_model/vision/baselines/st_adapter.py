"""ST-Adapter: a narrow depth-wise convolution over time before the attention of CLIP's layers.

B clips, T frames, P patches, D width, C bottleneck width, K layers.
"""

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import nn

from bt_model.vision.baselines.in_trunk import TemporalParts

if TYPE_CHECKING:
    from torch import Tensor

KERNEL = 3  # frames; the published kernel is 3 x 1 x 1, one patch position


class TimeConvolution(nn.Module):
    """Residual down-projection, depth-wise convolution over time, up-projection. (B, T, P, D) -> same.

    The convolution and all biases start at zero, so the adapter starts as the identity.
    """

    def __init__(self, dim: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, bottleneck)
        self.conv = nn.Conv1d(bottleneck, bottleneck, KERNEL, padding=KERNEL // 2, groups=bottleneck)
        self.up = nn.Linear(bottleneck, dim)
        for zero in (self.conv.weight, self.conv.bias, self.down.bias, self.up.bias):
            assert zero is not None
            nn.init.zeros_(zero)

    def forward(self, x: "Tensor") -> "Tensor":
        batch, _, num_patches, _ = x.shape
        tracks = self.conv(rearrange(self.down(x), "b t p c -> (b p) c t"))
        return x + self.up(rearrange(tracks, "(b p) c t -> b t p c", b=batch, p=num_patches))


class STAdapter(TemporalParts):
    """An adapter before each of K layers; the CLS bypasses it."""

    def __init__(self, dim: int, bottleneck: int, num_layers: int) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(TimeConvolution(dim, bottleneck) for _ in range(num_layers))

    def run_layer(self, k: int, layer: nn.Module, x: "Tensor") -> "Tensor":
        cls, patches = x[:, :, :1], x[:, :, 1:]
        return layer(torch.cat([cls, self.adapters[k](patches)], dim=2))
