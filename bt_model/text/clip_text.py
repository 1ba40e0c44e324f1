"""CLIP and EVA-CLIP text towers: causal, no padding mask, pooled at the end token.

B texts, n token positions, W width.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.vision.attention import ClipLayer

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.config import ClipTextConfig


class ClipTextTower(nn.Module):
    """Token ids (B, n) -> joint embedding (B, projection_dim), not normalised."""

    def __init__(self, config: "ClipTextConfig") -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.position_embedding = nn.Embedding(config.context_length, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.01)
        self.layers = nn.ModuleList(
            ClipLayer(width, config.num_heads, config.mlp_width, config.eps, config.act)
            for _ in range(config.num_layers)
        )
        self.final_layer_norm = nn.LayerNorm(width, eps=config.eps)
        self.text_projection = nn.Linear(width, config.projection_dim, bias=False)

    def tokens(self, ids: "Tensor") -> "Tensor":
        """(B, n) -> (B, n, W) after the final norm."""
        x = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, is_causal=True)
        return self.final_layer_norm(x)

    def forward(self, ids: "Tensor") -> "Tensor":
        # The end token has the largest id; a text without one is pooled at the largest id that it has.
        rows = torch.arange(len(ids), device=ids.device)
        return self.text_projection(self.tokens(ids)[rows, ids.argmax(dim=1)])
