"""Rotary positions of a decoder."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bt_model.config import LinearRope, Llama3Rope, LlamaConfig
from bt_model.generation.kv_cache import Heads


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary tables, broadcastable to (B, heads, n, D); the sine carries the sign of the half turn."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def table(cls, length: int, cfg: LlamaConfig, like: Tensor) -> "Rope":
        """Positions 0..length-1, (length, D), computed in float32, with the dtype and device of `like`."""
        exponents = torch.arange(0, cfg.head_dim, 2, dtype=torch.float32, device=like.device) / cfg.head_dim
        frequencies = _scaled(cfg.rope_theta**-exponents, cfg.rope)
        angles = torch.outer(torch.arange(length, dtype=torch.float32, device=like.device), frequencies)
        sin = angles.sin()
        return cls(angles.cos().repeat(1, 2).to(like.dtype), torch.cat((-sin, sin), dim=1).to(like.dtype))

    def at(self, positions: Tensor) -> "Rope":
        """The tables (N, D) of positions (N,)."""
        return Rope(self.cos[positions], self.sin[positions])

    def rotate(self, x: Tensor) -> Tensor:
        """(B, heads, n, D) -> same; position p's pair (i, i + D/2) is turned by p * its frequency."""
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, dims=-1), self.sin)


def turned(qkv: Tensor, rope: Rope, heads: Heads) -> tuple[Tensor, Tensor, Tensor]:
    """Merged projections (N, (H + 2 G) D), tables (N, D) of positions -> q (N, H, D), k and v (N, G, D)."""
    each = qkv.unflatten(1, (-1, heads.dim))
    both, v = each.split([heads.query + heads.shared, heads.shared], dim=1)
    both = torch.addcmul(both * rope.cos[:, None], both.roll(heads.dim // 2, dims=-1), rope.sin[:, None])
    q, k = both.split([heads.query, heads.shared], dim=1)
    return q, k, v


def _scaled(frequencies: Tensor, scaling: LinearRope | Llama3Rope | None) -> Tensor:
    """Radians a position, (D/2,)."""
    if scaling is None:
        return frequencies
    slow = frequencies / scaling.factor
    if isinstance(scaling, LinearRope):
        return slow
    turns = frequencies * scaling.context / (2 * math.pi)
    share = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)  # of the frequency itself
    return torch.lerp(slow, frequencies, share)
