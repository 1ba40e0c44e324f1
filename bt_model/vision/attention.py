"""The parts that the trunk, the branch, the text tower and the Q-Former share.

B batch of sequences, N tokens, M tokens of a source, D width, H heads.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from bt_model.vision.linear import Linear

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.config import Activation


def attend(q: "Tensor", k: "Tensor", v: "Tensor", *, is_causal: bool = False) -> "Tensor":
    """Scaled dot-product attention, (B, H, N, d) each -> (B, H, N, d).

    With gradients in bfloat16 on a CPU, it uses plain matrix products: the fused kernel's backward pass takes
    seven times as long there.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or not torch.is_grad_enabled():
        return scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if is_causal:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(ahead, float("-inf"))
    return scores.softmax(dim=-1).to(v.dtype) @ v


class MultiHeadAttention(nn.Module):
    """Attention with biases, scaled by head_dim ** -0.5: of tokens over themselves, or over a source's.

    (..., N, D), and (..., M, source_dim) where there is a source -> (..., N, D).
    """

    def __init__(self, dim: int, num_heads: int, source_dim: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = Linear(dim, dim)
        self.k_proj = Linear(source_dim or dim, dim)
        self.v_proj = Linear(source_dim or dim, dim)
        self.out_proj = Linear(dim, dim)

    def forward(self, x: "Tensor", source: "Tensor | None" = None, *, is_causal: bool = False) -> "Tensor":
        def heads(y: "Tensor") -> "Tensor":
            return rearrange(y, "b n (h d) -> b h n d", h=self.num_heads)

        flat = x.flatten(0, -3)  # torch's fused attention needs four axes
        read = flat if source is None else source.flatten(0, -3)
        q, k, v = heads(self.q_proj(flat)), heads(self.k_proj(read)), heads(self.v_proj(read))
        mixed = attend(q, k, v, is_causal=is_causal)
        return self.out_proj(rearrange(mixed, "b h n d -> b n (h d)")).view_as(x)


def quick_gelu(x: "Tensor") -> "Tensor":
    """CLIP's activation, x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: "dict[Activation, Callable[[Tensor], Tensor]]" = {"quick_gelu": quick_gelu, "gelu": gelu}


class Mlp(nn.Module):
    """Two linear layers around an activation. (..., D) -> (..., D)."""

    def __init__(self, dim: int, hidden: int, act: "Activation" = "quick_gelu") -> None:
        super().__init__()
        self.act = ACTIVATIONS[act]
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: "Tensor") -> "Tensor":
        return self.fc2(self.act(self.fc1(x)))


class ClipLayer(nn.Module):
    """One pre-norm block of CLIP or EVA-CLIP. (B, N, D) -> (B, N, D)."""

    def __init__(
        self, dim: int, num_heads: int, mlp_width: int, eps: float, act: "Activation" = "quick_gelu"
    ) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(dim, eps=eps)
        self.self_attn = MultiHeadAttention(dim, num_heads)
        self.layer_norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, mlp_width, act)

    def forward(self, x: "Tensor", *, is_causal: bool = False) -> "Tensor":
        x = x + self.self_attn(self.layer_norm1(x), is_causal=is_causal)
        return x + self.mlp(self.layer_norm2(x))
