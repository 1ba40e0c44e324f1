"""Trunk and branch side by side: frames to what a chat model or a retrieval head reads.

B clips, T frames, P patches, D width, K branch layers, L trunk layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import nn

from bt_model.vision.bt_adapter import BranchState

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.bt_adapter import BTAdapter
    from bt_model.vision.clip import ClipVisionTower


@dataclass(frozen=True, slots=True)
class ChatFeatures:
    """A clip pooled over time: patches (B, P, D) and CLS (B, D)."""

    patches: "Tensor"
    cls: "Tensor"


class VideoEncoder(nn.Module):
    """CLIP with the branch, or CLIP alone averaged over frames (`adapter` None)."""

    def __init__(
        self, tower: "ClipVisionTower", adapter: "BTAdapter | None", *, upstream_compat: bool = False
    ) -> None:
        super().__init__()
        self.tower = tower
        self.adapter = adapter
        self.upstream_compat = upstream_compat

    @property
    def num_branch_layers(self) -> int:
        return 1 if self.adapter is None else self.adapter.config.num_layers

    def trunk_states(self, pixels: "Tensor", *, stop: int | None = None) -> "list[Tensor]":
        """Outputs of the trunk layers L-K .. stop-1 (None: L-1), which the branch reads.

        (B, T, 3, H, W) -> up to K tensors (B, T, 1 + P, D).
        """
        last = self.tower.config.num_layers
        keep = range(last - self.num_branch_layers, last if stop is None else stop)
        states = self.tower(rearrange(pixels, "b t c h w -> (b t) c h w"), keep)
        return [rearrange(x, "(b t) n d -> b t n d", b=len(pixels)) for x in states]

    def chat(self, pixels: "Tensor") -> ChatFeatures:
        """Hidden state -2 pooled over time; the last trunk and branch layers are not computed (4.2).

        Normalised frames (B, T, 3, H, W) -> patches (B, P, D), CLS (B, D).
        """
        last = self.tower.config.num_layers
        if self.adapter is None:
            frames = rearrange(pixels, "b t c h w -> (b t) c h w")
            (x,) = self.tower(frames, range(last - 2, last - 1))
            return _mean_over_time(rearrange(x, "(b t) n d -> b t n d", b=len(pixels)))
        return self.chat_from_trunk(self.trunk_states(pixels, stop=last - 1))

    def chat_from_trunk(self, states: "Sequence[Tensor]") -> ChatFeatures:
        """Trunk layers L-K .. L-2, each (B, T, 1 + P, D); branch and trunk are averaged (4.2)."""
        assert self.adapter is not None
        trunk = _mean_over_time(states[-1])
        branch = self.adapter(states, self.tower.position, upstream_compat=self.upstream_compat)
        return ChatFeatures(
            0.5 * (trunk.patches + branch.patches.mean(dim=1)), 0.5 * (trunk.cls + branch.cls)
        )

    def retrieve(self, pixels: "Tensor") -> "Tensor":
        """Video embedding, not normalised (4.1). (B, T, 3, H, W) -> (B, projection_dim)."""
        return self.retrieve_from_trunk(self.trunk_states(pixels))

    def retrieve_from_trunk(self, states: "Sequence[Tensor]") -> "Tensor":
        """The last K trunk layers, each (B, T, 1 + P, D) -> (B, projection_dim)."""
        branch = None if self.adapter is None else self.adapter(states, self.tower.position)
        return self.embed_video(states[-1], branch)

    def embed_video(self, last: "Tensor", branch: "BranchState | None") -> "Tensor":
        """The video's CLS is gated into each frame's. (B, T, 1 + P, D) -> (B, projection_dim)."""
        cls = last[:, :, 0]  # (B, T, D)
        if branch is not None:
            assert self.adapter is not None
            gate = self.adapter.output_gate
            video = branch.cls[:, None]
            cls = cls + video if gate is None else torch.lerp(video, cls, gate)
        return self.tower.project(cls).mean(dim=1)


def _mean_over_time(tokens: "Tensor") -> ChatFeatures:
    """(B, T, 1 + P, D) -> averaged over T."""
    mean = tokens.mean(dim=1)
    return ChatFeatures(mean[:, 1:], mean[:, 0])
