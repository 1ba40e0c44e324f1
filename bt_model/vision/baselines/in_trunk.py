"""Models inside the trunk: its last K layers are computed differently, or with layers added between them.

B clips, T frames, P patches, D width, K changed layers, L trunk layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from bt_model.config import TemporalConfig
from bt_model.vision.encoder import FIRST_STATE, ChatFeatures, TemporalEncoder, refuse_mask

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.clip import ClipVisionTower


class TemporalParts(nn.Module, ABC):
    """The modules that a model adds to K layers of the trunk. (B, T, 1 + P, D) -> (B, T, 1 + P, D)."""

    max_frames: int | None = None

    def enter(self, x: "Tensor") -> "Tensor":
        """Applied once, before the first changed layer."""
        return x

    @abstractmethod
    def run_layer(self, k: int, layer: nn.Module, x: "Tensor") -> "Tensor":
        """The trunk's `layer`, changed layer number k from 0, with the added modules."""


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
