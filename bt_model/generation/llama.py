"""A Llama decoder; parameter names are those of Hugging Face checkpoints.

B rows, n positions, W width, H query heads, G key/value heads, D head width, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bt_model.config import LlamaConfig
from bt_model.generation.kv_cache import page_bytes
from bt_model.generation.llama_runner import LlamaRunner
from bt_model.generation.rope import Rope

_INIT_STD = 0.02


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
        self.q_proj = nn.Linear(cfg.width, cfg.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(cfg.width, cfg.num_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(cfg.width, cfg.num_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(cfg.num_heads * self.head_dim, cfg.width, bias=False)

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
        self.gate_proj = nn.Linear(cfg.width, cfg.mlp_width, bias=False)
        self.up_proj = nn.Linear(cfg.width, cfg.mlp_width, bias=False)
        self.down_proj = nn.Linear(cfg.mlp_width, cfg.width, bias=False)

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
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.width)
        self.layers = nn.ModuleList(DecoderLayer(cfg) for _ in range(cfg.num_layers))
        self.norm = nn.RMSNorm(cfg.width, cfg.eps)

    def forward(self, x: Tensor, pattern: CausalPattern) -> Tensor:
        for layer in self.layers:
            x = layer(x, pattern)
        return x


class Llama(nn.Module):
    """Embeddings in, next-token logits out: cached for generation, whole sequences for training.

    Tied embeddings have no `lm_head.weight` of their own, as in their checkpoints.
    """

    def __init__(self, cfg: LlamaConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.model = LlamaDecoder(cfg)
        self.lm_head = None if cfg.tie_embeddings else nn.Linear(cfg.width, cfg.vocab_size, bias=False)
        for weight in self.parameters():
            if weight.dim() > 1:  # norms keep their ones
                nn.init.normal_(weight, std=_INIT_STD)

    @property
    def vocab_size(self) -> int:
        """Rows of the token table; a table may have been grown for a prompt's markers, the head not."""
        return self.model.embed_tokens.num_embeddings

    @property
    def hidden_size(self) -> int:
        return self.cfg.width

    @property
    def max_context(self) -> int:
        return self.cfg.max_context

    def forward(self, embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, n, W) and which tokens are real, (B, n) with padding on the right -> logits (B, n, V)."""
        return self.logits(self.states(embeds, mask))

    def states(self, embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """The last layer's outputs (B, n, W), the input of `logits`; arguments as in `forward`."""
        return self.model(embeds, CausalPattern.of(self.rope(embeds.shape[1]), mask))

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids, any shape (...) int64 -> (..., W)."""
        return self.model.embed_tokens(ids.to(self.model.embed_tokens.weight.device))

    def start(self, num_pages: int, *, keep_weights: bool = True) -> LlamaRunner:
        """A runner of steps with a cache of so many pages.

        Without `keep_weights` the decoder's matrices move into the runner, and only the runner and `embed` can
        be used from then on.
        """
        return LlamaRunner(self, num_pages, keep_weights=keep_weights)

    @property
    def page_bytes(self) -> int:
        """Memory of one page of the cache."""
        return page_bytes(self.cfg, self.model.norm.weight.itemsize)

    def logits(self, x: Tensor) -> Tensor:
        """States of any positions (..., W) -> (..., V)."""
        logits = F.linear(self.model.norm(x), self.head_weight)
        unspoken = self.vocab_size - logits.shape[-1]
        return F.pad(logits, (0, unspoken), value=-math.inf) if unspoken else logits

    @property
    def head_weight(self) -> Tensor:
        """(V, W)."""
        return (self.model.embed_tokens if self.lm_head is None else self.lm_head).weight

    def rope(self, length: int) -> Rope:
        """The rotary table of positions 0..length - 1."""
        return Rope.table(length, self.cfg.head_dim, self.cfg.rope_theta, like=self.model.norm.weight)
