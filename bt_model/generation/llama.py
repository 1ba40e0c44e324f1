"""A Llama decoder with a slotted KV cache; parameter names are those of Hugging Face checkpoints.

B rows, n positions, W width, H query heads, G key/value heads, D head width, V vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bt_model.config import LlamaConfig
from bt_model.generation.kv_cache import (
    AttentionPattern,
    CausalAttention,
    DecodeAttention,
    KVCache,
    PrefillAttention,
    Rope,
)

_INIT_STD = 0.02


class RotaryAttention(nn.Module):
    """Rotary self-attention with grouped key/value heads. (B, n, W) -> (B, n, W)."""

    def __init__(self, cfg: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = cfg.width // cfg.num_heads
        self.q_proj = nn.Linear(cfg.width, cfg.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(cfg.width, cfg.num_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(cfg.width, cfg.num_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(cfg.num_heads * self.head_dim, cfg.width, bias=False)

    def forward(self, x: Tensor, attention: AttentionPattern) -> Tensor:
        rotate = attention.rope.rotate
        q, k, v = self._heads(self.q_proj(x)), self._heads(self.k_proj(x)), self._heads(self.v_proj(x))
        seen = attention.attend(self.layer, rotate(q), rotate(k), v)
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

    def __init__(self, cfg: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = RotaryAttention(cfg, layer)
        self.mlp = MLP(cfg)
        self.input_layernorm = nn.RMSNorm(cfg.width, cfg.eps)
        self.post_attention_layernorm = nn.RMSNorm(cfg.width, cfg.eps)

    def forward(self, x: Tensor, attention: AttentionPattern) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), attention)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaDecoder(nn.Module):
    """Embedding table, layers and final norm. (B, n, W) -> (B, n, W), not normalised."""

    def __init__(self, cfg: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.width)
        self.layers = nn.ModuleList(DecoderLayer(cfg, i) for i in range(cfg.num_layers))
        self.norm = nn.RMSNorm(cfg.width, cfg.eps)

    def forward(self, x: Tensor, attention: AttentionPattern) -> Tensor:
        for layer in self.layers:
            x = layer(x, attention)
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
        return self.model(embeds, CausalAttention(self._rope(embeds.shape[1]), mask))

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids, any shape (...) int64 -> (..., W)."""
        return self.model.embed_tokens(ids.to(self.model.embed_tokens.weight.device))

    def new_cache(self, num_slots: int, max_context: int) -> KVCache:
        """An empty cache of `num_slots` sequences of up to `max_context` positions."""
        head_dim = self.cfg.width // self.cfg.num_heads
        shape = (num_slots, self.cfg.num_kv_heads, max_context, head_dim)
        return KVCache.empty(self.cfg.num_layers, shape, self._rope(max_context))

    @torch.inference_mode()
    def prefill(self, cache: object, slot: int, embeds: Tensor, start: int) -> Tensor:
        """Write (n, W) at positions start.. of one slot; logits (V,) of the last position."""
        assert isinstance(cache, KVCache)
        attention = PrefillAttention(cache, slot, start, embeds.shape[0])
        return self.logits(self.model(embeds[None], attention)[0, -1])

    @torch.inference_mode()
    def decode(self, cache: object, slots: Tensor, ids: Tensor, positions: Tensor) -> Tensor:
        """One new token (B,) for each of B slots, written at `positions` (B,); logits (B, V).

        `slots` and `positions` are best kept on the CPU: reading them from a GPU would wait for it.
        """
        assert isinstance(cache, KVCache)
        attention = DecodeAttention(cache, slots.tolist(), positions.tolist())
        return self.logits(self.model(self.embed(ids)[:, None], attention)[:, 0])

    def logits(self, x: Tensor) -> Tensor:
        """States of any positions (..., W) -> (..., V)."""
        head = self.model.embed_tokens if self.lm_head is None else self.lm_head
        logits = F.linear(self.model.norm(x), head.weight)
        unspoken = self.vocab_size - logits.shape[-1]
        return F.pad(logits, (0, unspoken), value=-math.inf) if unspoken else logits

    def _rope(self, length: int) -> Rope:
        head_dim = self.cfg.width // self.cfg.num_heads
        return Rope.table(length, head_dim, self.cfg.rope_theta, like=self.model.norm.weight)
