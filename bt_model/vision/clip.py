"""CLIP and EVA-CLIP vision towers of any size.

N images, B clips, T frames, S stored states, P patches (row-major), D width, L layers. Token 0 is the CLS.
Hidden states are numbered 0 to L: 0 enters the first layer, l comes out of layer l, counted from 1.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import nn

from bt_model.vision.attention import ClipLayer

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.config import ClipVisionConfig


_PIECE = 32  # images on a GPU
_CACHED_BYTES = 16 * 2**20  # of a CPU's cache, for the widest states between layers


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

        (N, 3, H, W) -> len(numbers) tensors (N, 1 + P, D). A tower that serves takes images in pieces: what
        is between the layers stays in a CPU's cache, and others get their turn on a GPU.
        """
        size = self._piece(pixels) if torch.is_inference_mode_enabled() else len(pixels)
        if size >= len(pixels):
            return self.advance(self.embed(pixels), 0, numbers)
        pieces = [self.advance(self.embed(piece), 0, numbers) for piece in pixels.split(size)]
        return [torch.cat(states) for states in zip(*pieces, strict=True)]

    def _piece(self, pixels: "Tensor") -> int:
        """Images to compute at once."""
        if pixels.device.type != "cpu":
            return _PIECE
        image_bytes = len(self.position) * self.config.mlp_width * pixels.itemsize
        return max(_CACHED_BYTES // image_bytes, 1)

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


@torch.no_grad()
def hidden_states(tower: ClipVisionTower, pixels: "Tensor", numbers: Collection[int]) -> "dict[int, Tensor]":
    """Hidden states of a frozen tower by number, ascending. (B, T, 3, H, W) -> each (B, T, 1 + P, D)."""
    states = tower(rearrange(pixels, "b t c h w -> (b t) c h w"), numbers)
    grouped = (rearrange(x, "(b t) n d -> b t n d", b=len(pixels)) for x in states)
    return dict(zip(sorted(set(numbers)), grouped, strict=True))


@torch.no_grad()
def states_of(
    tower: ClipVisionTower,
    clips: "Tensor",
    reads: range,
    stored: Sequence[int],
    normalise: "Callable[[Tensor], Tensor]",
) -> "list[Tensor]":
    """Hidden states `reads` of clips, each (B, T, 1 + P, D) float32.

    `clips` are frames (B, T, H, W, 3) uint8, or the `stored` states (B, S, T, 1 + P, D) of these numbers. If
    not all that is read is stored, the tower goes on from the first.
    """
    if not stored:
        pixels = normalise(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        return list(hidden_states(tower, pixels, reads).values())
    known = dict(zip(stored, (x.float() for x in clips.unbind(1)), strict=True))
    if set(reads) <= set(known):
        return [known[number] for number in reads]
    first = reads[0]
    return tower.advance(known[first], first, reads)
