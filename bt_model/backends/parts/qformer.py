"""Q-Former: learnt queries that read a picture's features, and the instruction where there is one.

A BERT with cross-attention in every second layer. B clips or frames, Q queries, n instruction tokens,
N features of width D, H its own width.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.vision.attention import Mlp, MultiHeadAttention

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class QFormerConfig:
    """A Q-Former. `vocab_size` 0: no text input. `cross_every` 2: cross-attention in layers 0, 2, ..."""

    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    video_dim: int
    num_queries: int = 32
    vocab_size: int = 0
    max_positions: int = 512
    cross_every: int = 2
    eps: float = 1e-12
    video_eps: float = 1e-5


class QFormerLayer(nn.Module):
    """A post-norm BERT layer; queries and text have separate feed-forward networks."""

    def __init__(self, config: QFormerConfig, *, has_cross: bool) -> None:
        super().__init__()
        width = config.width

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(width, eps=config.eps)

        self.has_cross = has_cross
        self.self_attn = MultiHeadAttention(width, config.num_heads)
        self.self_norm = norm()
        if has_cross:
            self.cross_attn = MultiHeadAttention(width, config.num_heads, config.video_dim)
            self.cross_norm = norm()
        self.query_mlp = Mlp(width, config.mlp_width, "gelu")
        self.query_norm = norm()
        if config.vocab_size:
            self.text_mlp = Mlp(width, config.mlp_width, "gelu")
            self.text_norm = norm()

    def forward(self, x: "Tensor", video: "Tensor", num_queries: int) -> "Tensor":
        """(B, Q + n, H) and features (B, N, D) -> (B, Q + n, H)."""
        x = self.self_norm(x + self.self_attn(x))
        queries, text = x[:, :num_queries], x[:, num_queries:]
        if self.has_cross:
            queries = self.cross_norm(queries + self.cross_attn(queries, video))
        queries = self.query_norm(queries + self.query_mlp(queries))
        if not text.shape[1]:
            return queries
        return torch.cat([queries, self.text_norm(text + self.text_mlp(text))], dim=1)


class QFormer(nn.Module):
    """Features -> Q tokens. It includes `ln_vision`, because features are pooled before that norm."""

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.ln_vision = nn.LayerNorm(config.video_dim, eps=config.video_eps)
        self.query_tokens = nn.Parameter(torch.randn(config.num_queries, width) * 0.02)
        self.norm = nn.LayerNorm(width, eps=config.eps)
        if config.vocab_size:
            self.word_embedding = nn.Embedding(config.vocab_size, width)
            self.position_embedding = nn.Embedding(config.max_positions, width)
        self.layers = nn.ModuleList(
            QFormerLayer(config, has_cross=index % config.cross_every == 0)
            for index in range(config.num_layers)
        )

    def reading(self) -> tuple[str, ...]:
        """Names of the parameters whose shape depends on the width of the features."""
        read = ("ln_vision.", "cross_attn.k_proj.", "cross_attn.v_proj.")
        return tuple(name for name, _ in self.named_parameters() if any(part in name for part in read))

    def forward(self, video: "Tensor", text: "Tensor | None" = None) -> "Tensor":
        """Features (B, N, D), and the instruction's ids, (B, n) or (1, n) for all -> (B, Q, H)."""
        video = self.ln_vision(video)
        x = self.query_tokens.expand(len(video), -1, -1)
        num_queries = x.shape[1]
        if text is not None:
            words = self.word_embedding(text) + self.position_embedding.weight[: text.shape[1]]
            x = torch.cat([x, words.expand(len(video), -1, -1)], dim=1)
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, video, num_queries)
        return x[:, :num_queries]
