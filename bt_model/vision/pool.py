"""From a clip's features to the (K, D) tokens that a backend takes; each pooling is a named function.

B clips, T frames, T' frames of the branch (T, or T / 2 where it merged pairs), P patches, D width. Trunk and
branch have a weight of one half each (docs/published-models.md, "Chat output").
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange, reduce, repeat
from torch.nn.functional import pad

from bt_model.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.encoder import ChatFeatures

TEMPORAL_TOKENS = 100  # of Video-ChatGPT, one a frame; the rest are zeros


def patches_cls(features: "ChatFeatures") -> "Tensor":
    """Averaged over time, patches first, CLS last: (B, P + 1, D), as the published weights were trained."""
    trunk = features.trunk.mean(dim=1)
    trunk = torch.cat([trunk[:, 1:], trunk[:, :1]], dim=1)
    if features.branch is None:
        return trunk
    branch = torch.cat([features.branch.patches.mean(dim=1), features.branch.cls[:, None]], dim=1)
    return 0.5 * (trunk + branch)


def patches(features: "ChatFeatures") -> "Tensor":
    """Averaged over time, patches only: (B, P, D), as in the paper."""
    return patches_cls(features)[:, :-1]


def frames_cls(features: "ChatFeatures") -> "Tensor":
    """Frames one after the other, each patches first, CLS last: (B, T' (P + 1), D)."""
    trunk = features.trunk
    if features.branch is not None:
        num_frames = features.branch.patches.shape[1]
        trunk = reduce(trunk, "b (t pair) n d -> b t n d", "mean", t=num_frames)
        cls = repeat(features.branch.cls, "b d -> b t 1 d", t=num_frames)
        trunk = 0.5 * (trunk + torch.cat([cls, features.branch.patches], dim=2))
    return rearrange(torch.cat([trunk[:, :, 1:], trunk[:, :, :1]], dim=2), "b t n d -> b (t n) d")


def frame_patches(features: "ChatFeatures") -> "Tensor":
    """Frames one after the other, patches only: (B, T' P, D), the paper's T x N tokens."""
    return _by_frame(features).flatten(1, 2)


def _by_frame(features: "ChatFeatures") -> "Tensor":
    """Patches only, (B, T', P, D)."""
    tokens = frames_cls(features)
    return rearrange(tokens, "b (t n) d -> b t n d", n=features.trunk.shape[2])[:, :, :-1]


def temporal_spatial(features: "ChatFeatures") -> "Tensor":
    """Video-ChatGPT: 100 means over a frame's patches, zero padded, then P means over frames.

    (B, 100 + P, D); the CLS is not used. Frames after the hundredth are part of the means over frames only.
    """
    apart = _by_frame(features)
    temporal = apart.mean(dim=2)[:, :TEMPORAL_TOKENS]
    padded = pad(temporal, (0, 0, 0, TEMPORAL_TOKENS - temporal.shape[1]))
    return torch.cat([padded, apart.mean(dim=1)], dim=1)


@dataclass(frozen=True, slots=True)
class Pooling:
    """A pooling and how many tokens it makes of P patches: for a clip, or (`is_per_frame`) a frame."""

    pool: "Callable[[ChatFeatures], Tensor]"
    num_tokens: Callable[[int], int]
    is_per_frame: bool = False


POOLINGS = {
    "patches_cls": Pooling(patches_cls, lambda num_patches: num_patches + 1),
    "patches": Pooling(patches, lambda num_patches: num_patches),
    "frames_cls": Pooling(frames_cls, lambda num_patches: num_patches + 1, is_per_frame=True),
    "frames": Pooling(frame_patches, lambda num_patches: num_patches, is_per_frame=True),
    "temporal_spatial": Pooling(temporal_spatial, lambda num_patches: TEMPORAL_TOKENS + num_patches),
}


def pooling(name: str) -> Pooling:
    """The pooling of that name.

    Raises:
        UnknownNameError: no such pooling.
    """
    if name not in POOLINGS:
        raise UnknownNameError(f"pooling is {name!r}; allowed: {', '.join(POOLINGS)}", param="pooling")
    return POOLINGS[name]
