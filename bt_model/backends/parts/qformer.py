"""Q-Former: learnt queries that read a picture's features, and the instruction where there is one.

A BERT with cross-attention in every second layer. B clips or frames, Q queries, n instruction tokens,
N features of width D, H its own width.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

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


class Attention(nn.Module):
    """Queries (B, Q, H) over keys and values (B, N, D), with an optional mask (B, 1, 1, N), True = used."""

    def __init__(self, width: int, num_heads: int, key_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(key_dim, width)
        self.v_proj = nn.Linear(key_dim, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: "Tensor", seen: "Tensor", mask: "Tensor | None" = None) -> "Tensor":
        def heads(y: "Tensor") -> "Tensor":
            return rearrange(y, "b n (h d) -> b h n d", h=self.num_heads)

        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(seen)), heads(self.v_proj(seen))
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(rearrange(mixed, "b h n d -> b n (h d)"))


class Mlp(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: "Tensor") -> "Tensor":
        return self.fc2(gelu(self.fc1(x)))


class QFormerLayer(nn.Module):
    """A post-norm BERT layer; queries and text have separate feed-forward networks."""

    def __init__(self, config: QFormerConfig, *, looks: bool) -> None:
        super().__init__()
        width = config.width

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(width, eps=config.eps)

        self.looks = looks
        self.self_attn = Attention(width, config.num_heads, width)
        self.self_norm = norm()
        if looks:
            self.cross_attn = Attention(width, config.num_heads, config.video_dim)
            self.cross_norm = norm()
        self.query_mlp = Mlp(width, config.mlp_width)
        self.query_norm = norm()
        if config.vocab_size:
            self.text_mlp = Mlp(width, config.mlp_width)
            self.text_norm = norm()

    def forward(self, x: "Tensor", video: "Tensor", num_queries: int, mask: "Tensor | None") -> "Tensor":
        """(B, Q + n, H) and features (B, N, D) -> (B, Q + n, H)."""
        x = self.self_norm(x + self.self_attn(x, x, mask))
        queries, text = x[:, :num_queries], x[:, num_queries:]
        if self.looks:
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
            QFormerLayer(config, looks=index % config.cross_every == 0) for index in range(config.num_layers)
        )

    def reading(self) -> tuple[str, ...]:
        """Names of the parameters whose shape depends on the width of the features."""
        read = ("ln_vision.", "cross_attn.k_proj.", "cross_attn.v_proj.")
        return tuple(name for name, _ in self.named_parameters() if any(part in name for part in read))

    def forward(
        self, video: "Tensor", text: "Tensor | None" = None, is_text: "Tensor | None" = None
    ) -> "Tensor":
        """Features (B, N, D), and instruction ids (B, n) with their padding mask -> (B, Q, H)."""
        video = self.ln_vision(video)
        x = self.query_tokens.expand(len(video), -1, -1)
        num_queries = x.shape[1]
        mask = None
        if text is not None:
            places = self.position_embedding.weight[: text.shape[1]]
            x = torch.cat([x, (self.word_embedding(text) + places).expand(len(video), -1, -1)], dim=1)
            if is_text is not None:
                known = torch.cat([is_text.new_ones(len(is_text), num_queries), is_text], dim=1)
                mask = known[:, None, None]
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, video, num_queries, mask)
        return x[:, :num_queries]
