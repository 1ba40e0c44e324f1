"""The layers of a Llama decoder, over whole sequences.

B rows, n positions, W width, H query heads, G key/value heads, D head width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bt_model.config import LlamaConfig
from bt_model.generation.rope import Rope


@dataclass(frozen=True, slots=True)
class CausalPattern:
    """How positions of whole sequences see each other: their rotary table, and a mask unless all are real."""

    rope: Rope
    mask: Tensor | None

    @classmethod
    def of(cls, rope: Rope, is_real: Tensor | None) -> "CausalPattern":
        """`is_real` (B, n); padding lies on the right."""
        if is_real is None:
            return cls(rope, None)
        length = rope.cos.shape[0]
        causal = torch.ones(length, length, dtype=torch.bool, device=is_real.device).tril()
        return cls(rope, causal & is_real[:, None, None, :])


class RotaryAttention(nn.Module):
    """Rotary self-attention with grouped key/value heads. (B, n, W) -> (B, n, W)."""

    def __init__(self, cfg: LlamaConfig) -> None:
        super().__init__()
        self.head_dim = cfg.head_dim
        query, shared = (heads * cfg.head_dim for heads in (cfg.num_heads, cfg.num_kv_heads))
        self.q_proj = nn.Linear(cfg.width, query, bias=cfg.has_qkv_bias)
        self.k_proj = nn.Linear(cfg.width, shared, bias=cfg.has_qkv_bias)
        self.v_proj = nn.Linear(cfg.width, shared, bias=cfg.has_qkv_bias)
        self.o_proj = nn.Linear(query, cfg.width, bias=cfg.has_out_bias)

    def forward(self, x: Tensor, pattern: CausalPattern) -> Tensor:
        rotate, mask = pattern.rope.rotate, pattern.mask
        q, k, v = self._heads(self.q_proj(x)), self._heads(self.k_proj(x)), self._heads(self.v_proj(x))
        seen = F.scaled_dot_product_attention(
            rotate(q), rotate(k), v, mask, is_causal=mask is None, enable_gqa=q.shape[1] != k.shape[1]
        )
        return self.o_proj(seen.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """(B, n, heads * D) -> (B, heads, n, D)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class MLP(nn.Module):
    """Gated feed-forward. (B, n, W) -> (B, n, W)."""

    def __init__(self, cfg: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(cfg.width, cfg.mlp_width, bias=cfg.has_mlp_bias)
        self.up_proj = nn.Linear(cfg.width, cfg.mlp_width, bias=cfg.has_mlp_bias)
        self.down_proj = nn.Linear(cfg.mlp_width, cfg.width, bias=cfg.has_mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each behind its norm and around a residual. (B, n, W) -> (B, n, W)."""

    def __init__(self, cfg: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = RotaryAttention(cfg)
        self.mlp = MLP(cfg)
        self.input_layernorm = nn.RMSNorm(cfg.width, cfg.eps)
        self.post_attention_layernorm = nn.RMSNorm(cfg.width, cfg.eps)

    def forward(self, x: Tensor, pattern: CausalPattern) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), pattern)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaDecoder(nn.Module):
    """Embedding table, layers and final norm. (B, n, W) -> (B, n, W), not normalised."""

    def __init__(self, cfg: LlamaConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.width)
        self.layers = nn.ModuleList(DecoderLayer(cfg) for _ in range(cfg.num_layers))
        self.norm = nn.RMSNorm(cfg.width, cfg.eps)

    def rope(self, length: int) -> Rope:
        """The rotary table of positions 0..length - 1."""
        return Rope.table(length, self.cfg, like=self.norm.weight)

    def forward(self, x: Tensor, pattern: CausalPattern) -> Tensor:
        for layer in self.layers:
            x = layer(x, pattern)
        return x
