"""The interface of all temporal models, and those that do not change the trunk: CLIP, BT-Adapter, STAN.

B clips, T frames, P patches, D width, K branch layers, L trunk layers. Hidden states of the trunk are
numbered 0 to L: 0 is the input of the first layer, l the output of layer l. Every model names the states that
it starts from, so that several models share one pass of a frozen trunk, or use cached states.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from bt_model.config import TemporalConfig
from bt_model.errors import InvalidValueError
from bt_model.vision.clip import hidden_states

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.bt_adapter import BranchState, BTAdapter
    from bt_model.vision.clip import ClipVisionTower

FIRST_STATE = range(1)  # an open trunk starts from state 0: CLIP's embeddings and pre-norm stay frozen


@dataclass(frozen=True, slots=True)
class ChatFeatures:
    """The chat model's features before pooling (vision/pool.py); for retrieval, those of the last layer.

    `trunk` (B, T, 1 + P, D), each frame's CLS first; `branch` has patches (B, T', P, D) and a CLS (B, D);
    T' is T, or T / 2 where the branch merged pairs of frames. Models inside the trunk have no branch.
    """

    trunk: "Tensor"
    branch: "BranchState | None" = None


class TemporalEncoder(nn.Module, ABC):
    """A temporal model over a tower that other models may share and that is never changed.

    An open model trains a copy of the tower, `own`: its layers, last norm and projection. The copy starts
    from hidden state 0 of the shared tower, so patch embedding, positions and pre-norm stay CLIP's.

    `skip` layers at the end are not on the chat path: 1 reads hidden state L - 1; 0 is for a tower that was
    published without its last layer.
    """

    def __init__(
        self, tower: "ClipVisionTower", *, own: "ClipVisionTower | None" = None, skip: int = 1
    ) -> None:
        super().__init__()
        self.tower = tower
        self.own = own
        self.skip = skip

    @property
    @abstractmethod
    def config(self) -> TemporalConfig:
        """The model's configuration."""

    @property
    @abstractmethod
    def reads(self) -> range:
        """The numbers of the hidden states that retrieval starts from."""

    @property
    @abstractmethod
    def chat_reads(self) -> range:
        """The numbers of the hidden states that the chat path starts from.

        Raises:
            InvalidValueError: no layer of this model is left on the chat path.
        """

    @property
    def has_chat(self) -> bool:
        """Whether a layer of this model is left on the chat path."""
        try:
            return bool(self.chat_reads)
        except InvalidValueError:
            return False

    @property
    @abstractmethod
    def max_frames(self) -> int | None:
        """The most frames that can be represented; None for any number."""

    @abstractmethod
    def chat_from_trunk(self, states: "Sequence[Tensor]") -> ChatFeatures:
        """Hidden states `chat_reads`, each (B, T, 1 + P, D) -> features for the chat model."""

    @abstractmethod
    def features_from_trunk(
        self, states: "Sequence[Tensor]", *, visible: "Tensor | None" = None
    ) -> ChatFeatures:
        """Hidden states `reads`, each (B, T, 1 + P, D) -> the last layer's tokens, for retrieval and losses.

        `visible` is BTAdapter's: which patches the branch sees.

        Raises:
            InvalidValueError: a mask for a model without a branch.
        """

    @abstractmethod
    def trainable(self) -> dict[str, nn.Module]:
        """The trained modules, by part of a checkpoint (checkpoints/layouts/key_map.py).

        An open trunk, `vision`, has frozen parameters too; `trainable_parameters` leaves them out.
        """

    @property
    def trunk(self) -> "ClipVisionTower":
        """The tower whose layers are run: an open model's own, or the shared one."""
        return self.tower if self.own is None else self.own

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters for the optimiser."""
        return [p for module in self.trainable().values() for p in module.parameters() if p.requires_grad]

    @property
    def num_trainable(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.trainable_parameters())

    def chat(self, pixels: "Tensor") -> ChatFeatures:
        """Normalised frames (B, T, 3, H, W) -> features for the chat model."""
        return self.chat_from_trunk(list(hidden_states(self.tower, pixels, self.chat_reads).values()))

    def retrieve_from_trunk(self, states: "Sequence[Tensor]") -> "Tensor":
        """Hidden states `reads`, each (B, T, 1 + P, D) -> (B, projection_dim)."""
        features = self.features_from_trunk(states)
        return self.embed_video(features.trunk, features.branch)

    def embed_video(self, last: "Tensor", branch: "BranchState | None") -> "Tensor":
        """Each frame's CLS, projected and averaged. (B, T, 1 + P, D) -> (B, projection_dim)."""
        assert branch is None, "only a model with a branch can read one"
        return self.trunk.project(last[:, :, 0]).mean(dim=1)

    def _chat_stop(self, num_layers: int) -> int:
        """The number of the last hidden state on the chat path, for a model of K layers."""
        if num_layers <= self.skip:
            raise InvalidValueError(
                f"num_layers is {num_layers}; allowed for chat: more than the {self.skip} that it leaves out",
                param="num_layers",
            )
        return self.tower.config.num_layers - self.skip


class VideoEncoder(TemporalEncoder):
    """CLIP with a branch, or CLIP alone (`adapter` None)."""

    def __init__(
        self,
        tower: "ClipVisionTower",
        adapter: "BTAdapter | None",
        *,
        own: "ClipVisionTower | None" = None,
        skip: int = 1,
        upstream_compat: bool = False,
    ) -> None:
        super().__init__(tower, own=own, skip=skip)
        self.adapter = adapter
        self.upstream_compat = upstream_compat

    @property
    def config(self) -> TemporalConfig:
        is_open = self.own is not None
        if self.adapter is None:
            return TemporalConfig("clip", is_open=is_open)
        return TemporalConfig(self.adapter.kind, self.adapter.config, is_open=is_open)

    @property
    def reads(self) -> range:
        return self._beside() if self.own is None else FIRST_STATE

    @property
    def chat_reads(self) -> range:
        return self._beside_chat() if self.own is None else FIRST_STATE

    @property
    def max_frames(self) -> int | None:
        return None if self.adapter is None else 2 * self.adapter.config.max_frames  # pairs are merged

    def chat_from_trunk(self, states: "Sequence[Tensor]") -> ChatFeatures:
        if self.own is not None:
            states = self.own.advance(states[0], 0, self._beside_chat())
        if self.adapter is None:
            return ChatFeatures(states[-1])
        branch = self.adapter(states, self.tower.position, upstream_compat=self.upstream_compat)[-1]
        return ChatFeatures(states[-1], branch)

    def features_from_trunk(
        self, states: "Sequence[Tensor]", *, visible: "Tensor | None" = None
    ) -> ChatFeatures:
        if self.own is not None:
            states = self.own.advance(states[0], 0, self._beside())
        if self.adapter is None:
            refuse_mask(visible, "clip")
            return ChatFeatures(states[-1])
        branch = self.adapter(states, self.tower.position, visible=visible)[-1]
        return ChatFeatures(states[-1], branch)

    def both_from_trunk(
        self, states: "Sequence[Tensor]", *, visible: "Tensor | None" = None
    ) -> tuple[ChatFeatures, ChatFeatures]:
        """Features for the chat model and for retrieval, from one pass through the branch.

        Raises:
            InvalidValueError: this model has no branch, or its own trunk.
        """
        if self.adapter is None or self.own is not None:
            found = "without a branch" if self.adapter is None else "open"
            raise InvalidValueError(
                f"the model is {found}; allowed: a branch over a frozen trunk", param="kind"
            )
        branch = self.adapter(states, self.tower.position, visible=visible)
        last = len(branch) - 1 - self.skip
        return ChatFeatures(states[last], branch[last]), ChatFeatures(states[-1], branch[-1])

    def embed_video(self, last: "Tensor", branch: "BranchState | None") -> "Tensor":
        """The video's CLS is combined with each frame's. (B, T, 1 + P, D) -> (B, projection_dim)."""
        if branch is None:
            return super().embed_video(last, None)
        assert self.adapter is not None
        return self.trunk.project(self.adapter.combine(last[:, :, 0], branch.cls)).mean(dim=1)

    def trainable(self) -> dict[str, nn.Module]:
        parts = {"adapter": self.adapter, "vision": self.own}
        return {name: module for name, module in parts.items() if module is not None}

    def _beside(self) -> range:
        """The hidden states that the branch layers read: the last K."""
        last = self.tower.config.num_layers
        num_layers = 1 if self.adapter is None else self.adapter.config.num_layers
        return range(last - num_layers + 1, last + 1)

    def _beside_chat(self) -> range:
        if self.adapter is None:
            last = self.tower.config.num_layers - self.skip
            return range(last, last + 1)
        return range(self._beside().start, self._chat_stop(self.adapter.config.num_layers) + 1)


def refuse_mask(visible: "Tensor | None", kind: str) -> None:
    """Raise for a mask: only a branch can leave patches out.

    Raises:
        InvalidValueError: a mask.
    """
    if visible is not None:
        raise InvalidValueError(
            f"visible is a mask and the model {kind}; allowed with it: bt_adapter, stan", param="visible"
        )


def encode_shared(encoders: Sequence[TemporalEncoder], pixels: "Tensor") -> list[ChatFeatures]:
    """The chat features of several models that share one tower, which runs once for all.

    (B, T, 3, H, W) -> one ChatFeatures each, in the order given.
    """
    (tower,) = {encoder.tower for encoder in encoders}
    wanted = [encoder.chat_reads for encoder in encoders]
    states = hidden_states(tower, pixels, {number for reads in wanted for number in reads})
    return [
        encoder.chat_from_trunk([states[number] for number in reads])
        for encoder, reads in zip(encoders, wanted, strict=True)
    ]
