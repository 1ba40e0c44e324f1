"""CLIP and EVA-CLIP vision towers of any size.

N images, P patches (row-major), D width, L layers. Token 0 is the image's CLS.
Hidden states are numbered 0 to L: 0 enters the first layer, l comes out of layer l, counted from 1.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.vision.attention import ClipLayer

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.config import ClipVisionConfig


class ClipVisionTower(nn.Module):
    """The frozen trunk. Parameter names are those of the published Hugging Face CLIP tower."""

    def __init__(self, config: "ClipVisionConfig") -> None:
        super().__init__()
        self.config = config
        width, is_eva = config.width, config.family == "eva"
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.patch_embedding = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=is_eva)
        self.position_embedding = nn.Embedding(1 + config.num_patches, width)
        nn.init.normal_(self.position_embedding.weight, std=width**-0.5)
        if not is_eva:
            self.pre_layrnorm = nn.LayerNorm(width, eps=config.eps)
        self.layers = nn.ModuleList(
            ClipLayer(width, config.num_heads, config.mlp_width, config.eps, config.act)
            for _ in range(config.num_layers)
        )
        self.post_layernorm = nn.LayerNorm(width, eps=config.eps)
        self.visual_projection = nn.Linear(width, config.projection_dim, bias=is_eva)

    @property
    def position(self) -> "Tensor":
        """The position table, (1 + P, D); the branch adds it a second time."""
        return self.position_embedding.weight

    def embed(self, pixels: "Tensor") -> "Tensor":
        """Normalised images (N, 3, H, W) -> tokens (N, 1 + P, D), after CLIP's pre-norm."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        cls = self.class_embedding.expand(len(pixels), 1, -1)
        tokens = torch.cat([cls, patches], dim=1) + self.position
        return tokens if self.config.family == "eva" else self.pre_layrnorm(tokens)

    def forward(self, pixels: "Tensor", numbers: Collection[int]) -> "list[Tensor]":
        """The hidden states of these numbers, ascending; layers after the last are not run.

        (N, 3, H, W) -> len(numbers) tensors (N, 1 + P, D).
        """
        return self.advance(self.embed(pixels), 0, numbers)

    def advance(self, x: "Tensor", start: int, numbers: Collection[int]) -> "list[Tensor]":
        """From hidden state `start` (..., 1 + P, D) to those of these numbers, ascending."""
        states = [x] if start in numbers else []
        for number in range(start + 1, max(numbers) + 1):
            x = self.layers[number - 1](x)
            if number in numbers:
                states.append(x)
        return states

    def project(self, cls: "Tensor") -> "Tensor":
        """CLS tokens (..., D) -> joint embedding (..., projection_dim), not normalised."""
        return self.visual_projection(self.post_layernorm(cls))
