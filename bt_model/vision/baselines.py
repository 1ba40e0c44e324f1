"""The temporal models that the paper compares BT-Adapter with: STAN, and three inside the trunk (paper 3.2).

ST pooling is not here: it is CLIP's frames behind the pooling `temporal_spatial` (vision/pool.py).
B clips, T frames, P patches, D width, C bottleneck width, K changed layers, L trunk layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from einops import rearrange
from torch import nn

from bt_model.config import TemporalConfig
from bt_model.errors import require
from bt_model.vision.bt_adapter import BTAdapter, TemporalLayer
from bt_model.vision.encoder import FIRST_STATE, ChatFeatures, TemporalEncoder, refuse_mask

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.config import BTAdapterConfig, ClipVisionConfig, TemporalKind
    from bt_model.vision.clip import ClipVisionTower

KERNEL = 3  # frames; ST-Adapter's published kernel is 3 x 1 x 1, one patch position


class Stan(BTAdapter):
    """BT-Adapter's branch whose CLS is a frozen copy of CLIP's class embedding, not learnt.

    It is combined with the trunk by plain addition, which `build_encoder` configures, as in the authors'
    release.
    """

    kind: "ClassVar[TemporalKind]" = "stan"

    def __init__(self, vision: "ClipVisionConfig", config: "BTAdapterConfig") -> None:
        super().__init__(vision, config)
        del self.cls_token
        self.register_buffer("cls_token", torch.zeros(vision.width))

    def init_from_trunk(self, tower: "ClipVisionTower") -> None:
        super().init_from_trunk(tower)
        self.cls_token.copy_(tower.class_embedding.detach())


class TemporalParts(nn.Module, ABC):
    """The modules that a model adds to K layers of the trunk. (B, T, 1 + P, D) -> (B, T, 1 + P, D)."""

    max_frames: int | None = None

    def enter(self, x: "Tensor") -> "Tensor":
        """Applied once, before the first changed layer."""
        return x

    @abstractmethod
    def run_layer(self, k: int, layer: nn.Module, x: "Tensor") -> "Tensor":
        """The trunk's `layer`, changed layer number k from 0, with the added modules."""


class JointST(TemporalParts):
    """All tokens of all frames attend to each other in every changed layer.

    Time embeddings are added once, to the patches before the first changed layer; the CLS has none.
    """

    def __init__(self, vision: "ClipVisionConfig", config: TemporalConfig) -> None:
        super().__init__()
        self.max_frames = config.max_frames
        self.time_embed = nn.Embedding(config.max_frames, vision.width)

    def enter(self, x: "Tensor") -> "Tensor":
        cls, patches = x[:, :, :1], x[:, :, 1:]
        return torch.cat([cls, patches + _times(self.time_embed, x.shape[1])], dim=2)

    def run_layer(self, k: int, layer: nn.Module, x: "Tensor") -> "Tensor":  # noqa: ARG002 - all are alike
        together = layer(rearrange(x, "b t n d -> b (t n) d"))
        return rearrange(together, "b (t n) d -> b t n d", t=x.shape[1])


class SeparateST(TemporalParts):
    """The branch's temporal layers, with their zero projection, before K layers; the CLS bypasses them.

    One time table is added to the input of each temporal attention, not to the residual stream, so that the
    untrained model equals CLIP exactly, although the table has unit scale.
    """

    def __init__(self, vision: "ClipVisionConfig", config: TemporalConfig) -> None:
        super().__init__()
        self.max_frames = config.max_frames
        self.time_embed = nn.Embedding(config.max_frames, vision.width)
        self.temporal = nn.ModuleList(
            TemporalLayer(vision.width, vision.num_heads, vision.eps)
            for _ in range(config.num_layers or vision.num_layers)
        )

    def run_layer(self, k: int, layer: nn.Module, x: "Tensor") -> "Tensor":
        cls, patches = x[:, :, :1], x[:, :, 1:]
        patches = self.temporal[k](patches, _times(self.time_embed, x.shape[1]))
        return layer(torch.cat([cls, patches], dim=2))


class TimeConvolution(nn.Module):
    """Residual down-projection, depth-wise convolution over time, up-projection. (B, T, P, D) -> same.

    The convolution and all biases start at zero, so the adapter starts as the identity.
    """

    def __init__(self, dim: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, bottleneck)
        self.conv = nn.Conv1d(bottleneck, bottleneck, KERNEL, padding=KERNEL // 2, groups=bottleneck)
        self.up = nn.Linear(bottleneck, dim)
        for zero in (self.conv.weight, self.conv.bias, self.down.bias, self.up.bias):
            assert zero is not None
            nn.init.zeros_(zero)

    def forward(self, x: "Tensor") -> "Tensor":
        batch, _, num_patches, _ = x.shape
        tracks = self.conv(rearrange(self.down(x), "b t p c -> (b p) c t"))
        return x + self.up(rearrange(tracks, "(b p) c t -> b t p c", b=batch, p=num_patches))


class STAdapter(TemporalParts):
    """A narrow depth-wise convolution over time before each of K layers; the CLS bypasses it."""

    def __init__(self, vision: "ClipVisionConfig", config: TemporalConfig) -> None:
        super().__init__()
        num_layers = config.num_layers or vision.num_layers
        self.adapters = nn.ModuleList(
            TimeConvolution(vision.width, config.bottleneck) for _ in range(num_layers)
        )

    def run_layer(self, k: int, layer: nn.Module, x: "Tensor") -> "Tensor":
        cls, patches = x[:, :, :1], x[:, :, 1:]
        return layer(torch.cat([cls, self.adapters[k](patches)], dim=2))


class InTrunkEncoder(TemporalEncoder):
    """CLIP with temporal parts inside its last K layers; it starts from the hidden state before them."""

    def __init__(
        self,
        tower: "ClipVisionTower",
        adapter: TemporalParts,
        config: TemporalConfig,
        *,
        own: "ClipVisionTower | None" = None,
        skip: int = 1,
    ) -> None:
        super().__init__(tower, own=own, skip=skip)
        self.adapter = adapter
        self._config = config

    @property
    def config(self) -> TemporalConfig:
        return self._config

    @property
    def num_layers(self) -> int:
        """K."""
        return self._config.num_layers or self.tower.config.num_layers

    @property
    def reads(self) -> range:
        return range(self._first, self._first + 1) if self.own is None else FIRST_STATE

    @property
    def chat_reads(self) -> range:
        self._chat_stop(self.num_layers)
        return self.reads

    @property
    def max_frames(self) -> int | None:
        return self.adapter.max_frames

    def chat_from_trunk(self, states: "Sequence[Tensor]") -> ChatFeatures:
        return ChatFeatures(self._run(states, self._chat_stop(self.num_layers)))

    def features_from_trunk(
        self, states: "Sequence[Tensor]", *, visible: "Tensor | None" = None
    ) -> ChatFeatures:
        refuse_mask(visible, self._config.kind)
        return ChatFeatures(self._run(states, self.tower.config.num_layers))

    def trainable(self) -> dict[str, nn.Module]:
        return {"adapter": self.adapter, **({} if self.own is None else {"vision": self.own})}

    @property
    def _first(self) -> int:
        """The number of the state before the first changed layer."""
        return self.tower.config.num_layers - self.num_layers

    def _run(self, states: "Sequence[Tensor]", stop: int) -> "Tensor":
        """The hidden state number `stop`, (B, T, 1 + P, D)."""
        (x,) = states
        (x,) = self.trunk.advance(x, self.reads.start, range(self._first, self._first + 1))
        x = self.adapter.enter(x)
        for k, layer in enumerate(self.trunk.layers[self._first : stop]):
            x = self.adapter.run_layer(k, layer, x)
        return x


def _times(table: nn.Embedding, num_frames: int) -> "Tensor":
    """The first T rows of a table, (T, 1, D), broadcastable to tokens (B, T, N, D).

    Raises:
        InvalidValueError: more frames than rows.
    """
    require(num_frames <= table.num_embeddings, "num_frames", num_frames, f"1 to {table.num_embeddings}")
    return table.weight[:num_frames, None]
