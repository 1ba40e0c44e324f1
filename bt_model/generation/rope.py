"""Rotary positions of a decoder."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary tables, broadcastable to (B, heads, n, D); the sine carries the sign of the half turn."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def table(cls, length: int, head_dim: int, theta: float, like: Tensor) -> "Rope":
        """Positions 0..length-1, (length, D), computed in float32, with the dtype and device of `like`."""
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=like.device) / head_dim
        angles = torch.outer(torch.arange(length, dtype=torch.float32, device=like.device), theta**-exponents)
        sin = angles.sin()
        return cls(angles.cos().repeat(1, 2).to(like.dtype), torch.cat((-sin, sin), dim=1).to(like.dtype))

    def rotate(self, x: Tensor) -> Tensor:
        """(B, heads, n, D) -> same; position p's pair (i, i + D/2) is turned by p * theta^(-2i/D)."""
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, dims=-1), self.sin)
