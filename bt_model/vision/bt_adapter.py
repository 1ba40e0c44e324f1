"""BT-Adapter: K divided space-time layers beside the last K layers of a frozen CLIP trunk.

B clips, T frames, P patches, M visible patches (M = P without a mask), D width. Patches stay (B, T, M, D);
the video's CLS is (B, D). Published arithmetic: docs/published-models.md, "Branch layers" and "Gates".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from einops import rearrange, reduce, repeat
from torch import nn

from bt_model.errors import require
from bt_model.vision.attention import ClipLayer, MultiHeadAttention

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.config import Activation, BTAdapterConfig, ClipVisionConfig, Projection, TemporalKind
    from bt_model.vision.clip import ClipVisionTower


TOKEN_INDEX_AXES = 3  # of `visible` where it holds token indices (B, T, M), not patch indices (B, M)


@dataclass(frozen=True, slots=True)
class BranchState:
    """The branch's hidden state: patches (B, T, M, D) and the video's CLS (B, D)."""

    patches: "Tensor"
    cls: "Tensor"


class TemporalLayer(nn.Module):
    """Self-attention of each patch position over the frames. (B, T, M, D) -> (B, T, M, D).

    Its result passes through `temporal_fc`, which starts at zero, at torch's default, or is left out (the
    paper's Table 11). Stochastic depth drops the result for whole patch positions, before `temporal_fc`.
    """

    def __init__(
        self, dim: int, num_heads: int, eps: float, projection: "Projection" = "zero", drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.layer_norm1 = nn.LayerNorm(dim, eps=eps)
        self.self_attn = MultiHeadAttention(dim, num_heads)
        self.temporal_fc = nn.Identity() if projection == "none" else nn.Linear(dim, dim)
        if projection == "zero":  # the untrained layer is the identity
            for weight in self.temporal_fc.parameters():
                nn.init.zeros_(weight)

    def forward(self, x: "Tensor", time: "Tensor | None" = None) -> "Tensor":
        """`time` (T, 1, D) is added to the attention's input only, not to the residual stream."""
        normed = self.layer_norm1(x if time is None else x + time)
        tracks = self.self_attn(rearrange(normed, "b t m d -> b m t d"))
        delta = self.temporal_fc(_drop(tracks, self.drop_path if self.training else 0.0))
        return x + rearrange(delta, "b m t d -> b t m d")


class SpatialLayer(ClipLayer):
    """Self-attention of each frame's patches and the video's CLS, whose results over the frames are averaged.

    Stochastic depth drops the attention's result for whole frames.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_width: int,
        eps: float,
        act: "Activation" = "quick_gelu",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(dim, num_heads, mlp_width, eps, act)
        self.drop_path = drop_path

    def run(self, state: BranchState) -> BranchState:
        """(B, T, M, D) and (B, D) -> the same shapes."""
        cls = repeat(state.cls, "b d -> b t 1 d", t=state.patches.shape[1])
        frames = torch.cat([cls, state.patches], dim=2)  # (B, T, 1 + M, D)
        mixed = _drop(self.self_attn(self.layer_norm1(frames)), self.drop_path if self.training else 0.0)
        patches = state.patches + mixed[:, :, 1:]
        cls = state.cls + mixed[:, :, 0].mean(dim=1)
        return BranchState(
            patches + self.mlp(self.layer_norm2(patches)), cls + self.mlp(self.layer_norm2(cls))
        )


class BTAdapter(nn.Module):
    """The branch. Holds no state between calls; the number of frames is an axis of its input."""

    kind: "ClassVar[TemporalKind]" = "bt_adapter"
    cls_token: "Tensor"

    def __init__(self, vision: "ClipVisionConfig", config: "BTAdapterConfig") -> None:
        super().__init__()
        self.config = config
        dim, heads, eps = vision.width, vision.num_heads, vision.eps
        self.cls_token = nn.Parameter(torch.zeros(dim))
        self.time_embed = nn.Embedding(config.max_frames, dim)  # N(0, 1); near zero, order is not learnt
        rates = torch.linspace(0, config.drop_path, config.num_layers, device="cpu").tolist()
        self.temporal = nn.ModuleList(TemporalLayer(dim, heads, eps, config.projection, r) for r in rates)
        self.spatial = nn.ModuleList(
            SpatialLayer(dim, heads, vision.mlp_width, vision.spatial_eps, vision.act, r) for r in rates
        )
        if config.output_gate is not None:
            self.balance1 = nn.Parameter(torch.zeros(dim))
        if config.middle_gate is not None:
            self.balance2 = nn.Parameter(torch.zeros(dim))
        if config.combination == "concat":
            self.output_concat = _averaging(dim)
            if config.interaction:
                self.middle_concat = _averaging(dim)

    @property
    def output_gate(self) -> "Tensor | None":
        """The trunk's share g1 (D,) of the retrieval output, or None where there is no gate."""
        scale = self.config.output_gate
        return None if scale is None else torch.sigmoid(scale * self.balance1)

    @property
    def middle_gate(self) -> "Tensor | None":
        """The trunk's share g2 (D,) between branch layers, or None where there is no gate."""
        scale = self.config.middle_gate
        return None if scale is None else torch.sigmoid(scale * self.balance2)

    def init_from_trunk(self, tower: "ClipVisionTower") -> None:
        """Start the spatial layers as copies of the last K trunk layers, as published."""
        for mine, theirs in zip(self.spatial, tower.layers[-len(self.spatial) :], strict=True):
            mine.load_state_dict(theirs.state_dict())

    def forward(
        self,
        trunk: "Sequence[Tensor]",
        position: "Tensor",
        *,
        visible: "Tensor | None" = None,
        upstream_compat: bool = False,
    ) -> list[BranchState]:
        """Run len(trunk) branch layers, at least one; returns the output of each.

        Args:
            trunk: output of trunk layer L-K+k for each branch layer k, each (B, T, 1 + P, D).
            position: the trunk's position table, (1 + P, D).
            visible: the patches that enter the branch: patch indices (B, M), the same in all frames (a tube),
                or token indices t * P + p of the clip, (B, T, M), to reproduce the published masking
                (docs/published-models.md, "Pre-training masks").
            upstream_compat: reproduce the frame groups of the published chat model
                (docs/published-models.md, "Frame grouping").

        Raises:
            InvalidValueError: more frames than can be represented, or an odd number where pairs are needed.
        """
        num_frames = trunk[0].shape[1]
        is_merged = num_frames > self.config.max_frames
        self._check_frames(num_frames, is_merged=is_merged, upstream_compat=upstream_compat)
        halves = 2 if upstream_compat and not is_merged else 1
        indices = None if visible is None else _token_indices(visible, num_frames, trunk[0].shape[2] - 1)
        gate = self.middle_gate
        states: list[BranchState] = []
        for tokens, temporal, spatial in zip(trunk, self.temporal, self.spatial, strict=False):
            if states and not self.config.interaction:
                state = states[-1]
            else:
                read = self._read(_merge_pairs(tokens) if is_merged else tokens, indices)
                state = self._mix(states[-1], read, gate) if states else self._enter(read, position, indices)
            states.append(_step(state, temporal, spatial, halves))
        return states

    def combine(self, cls: "Tensor", video: "Tensor") -> "Tensor":
        """Frame CLS of the trunk's last layer (B, T, D) combined with the video's (B, D), for retrieval."""
        video = video[:, None]
        if self.config.combination == "concat":
            return self.output_concat(torch.cat([cls, video.expand_as(cls)], dim=-1))
        gate = self.output_gate
        return cls + video if gate is None else torch.lerp(video, cls, gate)

    def _check_frames(self, num_frames: int, *, is_merged: bool, upstream_compat: bool) -> None:
        limit = 2 * self.config.max_frames
        even = num_frames % 2 == 0
        allowed = f"1 to {self.config.max_frames}, or an even number up to {limit}"
        require(num_frames <= limit and (even or not is_merged), "num_frames", num_frames, allowed)
        allowed = "an even number (the published grouping is undefined for odd ones)"
        require(even or not upstream_compat, "num_frames", num_frames, allowed)

    @staticmethod
    def _read(tokens: "Tensor", indices: "Tensor | None") -> BranchState:
        """What the branch reads of trunk tokens (B, T, 1 + P, D): visible patches and the mean frame CLS."""
        patches = tokens[:, :, 1:]
        if indices is not None:
            index = repeat(indices, "b t m -> b (t m) d", d=tokens.shape[3])
            patches = patches.flatten(1, 2).gather(1, index).unflatten(1, indices.shape[1:])
        return BranchState(patches, tokens[:, :, 0].mean(dim=1))

    def _enter(self, read: BranchState, position: "Tensor", indices: "Tensor | None") -> BranchState:
        """The first layer's input: position and time added to patches, and the CLS token averaged in."""
        space, time = position[1:], self.time_embed.weight[: read.patches.shape[1], None]
        if indices is not None:
            num_patches = len(space)
            space, time = space[indices % num_patches], time[indices // num_patches, 0]
        return BranchState(read.patches + space + time, 0.5 * (read.cls + self.cls_token + position[0]))

    def _mix(self, state: BranchState, read: BranchState, gate: "Tensor | None") -> BranchState:
        """A later layer's input, from branch and trunk: gated average, sum, or linear layer."""
        pairs = (state.patches, read.patches), (state.cls, read.cls)
        if self.config.combination == "concat":
            patches, cls = (self.middle_concat(torch.cat([b, a], dim=-1)) for a, b in pairs)
        elif gate is None:
            patches, cls = (a + b for a, b in pairs)
        else:
            patches, cls = (torch.lerp(a, b, gate) for a, b in pairs)
        return BranchState(patches, cls)


def _averaging(dim: int) -> nn.Linear:
    """Concatenated trunk and branch (..., 2 D) -> (..., D); initialised as their average."""
    linear = nn.Linear(2 * dim, dim)
    with torch.no_grad():
        linear.weight.copy_(0.5 * torch.eye(dim).repeat(1, 2))
        linear.bias.zero_()
    return linear


def _drop(x: "Tensor", rate: float) -> "Tensor":
    """Stochastic depth over the two leading axes of (B, G, n, D); the rest is scaled by 1 / (1 - rate)."""
    if rate == 0:
        return x
    mask = x.new_empty(x.shape[0], x.shape[1], 1, 1).bernoulli_(1 - rate)
    return x * (mask / (1 - rate))


def _token_indices(visible: "Tensor", num_frames: int, num_patches: int) -> "Tensor":
    """Patch indices (B, M) of a tube, or token indices already -> token indices t * P + p, (B, T, M)."""
    if visible.dim() == TOKEN_INDEX_AXES:
        return visible
    first = torch.arange(num_frames, device=visible.device) * num_patches
    return first[:, None] + visible[:, None]


def _step(state: BranchState, temporal: nn.Module, spatial: nn.Module, halves: int) -> BranchState:
    """One branch layer. With 2 halves, frames t and t + T/2 share a spatial group, as published."""
    assert isinstance(spatial, SpatialLayer)
    num_frames = state.patches.shape[1]
    grouped = rearrange(state.patches, "b (h t) m d -> b t (m h) d", h=halves)
    out = spatial.run(BranchState(temporal(grouped), state.cls))
    patches = rearrange(out.patches, "b t (m h) d -> b (h t) m d", h=halves)
    assert patches.shape[1] == num_frames
    return BranchState(patches, out.cls)


def _merge_pairs(tokens: "Tensor") -> "Tensor":
    """Neighbouring frames are averaged: (B, T, N, D) -> (B, T / 2, N, D)."""
    return reduce(tokens, "b (t two) n d -> b t n d", "mean", two=2)
