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
    """What the chat side reads, before any pooling (vision/pool.py).

    `trunk` (B, T, 1 + P, D), each frame's CLS first; `branch` has patches (B, T', P, D) and a CLS (B, D);
    T' is T, or T / 2 where the branch merged pairs of frames.
    """

    trunk: "Tensor"
    branch: "BranchState | None" = None


class VideoEncoder(nn.Module):
    """CLIP with the branch, or CLIP alone (`adapter` None).

    `skip` trunk layers and as many branch layers are left out at the end of the chat path: 1 reads hidden
    state -2; a tower that was published without its last layer is read to its end, 0.
    """

    def __init__(
        self,
        tower: "ClipVisionTower",
        adapter: "BTAdapter | None",
        *,
        skip: int = 1,
        upstream_compat: bool = False,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.adapter = adapter
        self.skip = skip
        self.upstream_compat = upstream_compat

    @property
    def num_branch_layers(self) -> int:
        return 1 if self.adapter is None else self.adapter.config.num_layers

    @property
    def chat_layers(self) -> range:
        """Trunk layers that the chat path reads; nothing behind them is computed."""
        stop = self.tower.config.num_layers - self.skip
        first = stop - 1 if self.adapter is None else self.tower.config.num_layers - self.num_branch_layers
        return range(first, stop)

    def trunk_states(self, pixels: "Tensor") -> "list[Tensor]":
        """Outputs of the trunk layers L-K .. L-1, which the branch reads.

        (B, T, 3, H, W) -> K tensors (B, T, 1 + P, D).
        """
        last = self.tower.config.num_layers
        return _run(self.tower, pixels, range(last - self.num_branch_layers, last))

    def chat(self, pixels: "Tensor") -> ChatFeatures:
        """Normalised frames (B, T, 3, H, W) -> what the chat side reads (4.2)."""
        return self.chat_from_trunk(_run(self.tower, pixels, self.chat_layers))

    def chat_from_trunk(self, states: "Sequence[Tensor]") -> ChatFeatures:
        """Outputs of the trunk layers of `chat_layers`, each (B, T, 1 + P, D) (4.2)."""
        if self.adapter is None:
            return ChatFeatures(states[-1])
        branch = self.adapter(states, self.tower.position, upstream_compat=self.upstream_compat)
        return ChatFeatures(states[-1], branch)

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


def encode_shared(encoders: Sequence[VideoEncoder], pixels: "Tensor") -> list[ChatFeatures]:
    """The chat features of several encoders that hold one and the same tower, which runs once for all.

    (B, T, 3, H, W) -> one ChatFeatures each, in the order given.
    """
    (tower,) = {encoder.tower for encoder in encoders}
    wanted = [encoder.chat_layers for encoder in encoders]
    layers = range(min(each.start for each in wanted), max(each.stop for each in wanted))
    states = _run(tower, pixels, layers)
    return [
        encoder.chat_from_trunk(states[each.start - layers.start : each.stop - layers.start])
        for encoder, each in zip(encoders, wanted, strict=True)
    ]


def _run(tower: "ClipVisionTower", pixels: "Tensor", layers: range) -> "list[Tensor]":
    states = tower(rearrange(pixels, "b t c h w -> (b t) c h w"), layers)
    return [rearrange(x, "(b t) n d -> b t n d", b=len(pixels)) for x in states]
