"""STAN: a branch whose CLS is the trunk's own class embedding, as in the authors' release."""

from typing import TYPE_CHECKING, ClassVar

import torch

from bt_model.vision.bt_adapter import BTAdapter

if TYPE_CHECKING:
    from bt_model.config import BTAdapterConfig, ClipVisionConfig, TemporalKind
    from bt_model.vision.clip import ClipVisionTower


class Stan(BTAdapter):
    """BT-Adapter's branch whose CLS is a frozen copy of CLIP's class embedding, not learnt.

    It is combined with the trunk by plain addition, which `build_encoder` configures.
    """

    kind: "ClassVar[TemporalKind]" = "stan"

    def __init__(self, vision: "ClipVisionConfig", config: "BTAdapterConfig") -> None:
        super().__init__(vision, config)
        del self.cls_token
        self.register_buffer("cls_token", torch.zeros(vision.width))

    def init_from_trunk(self, tower: "ClipVisionTower") -> None:
        super().init_from_trunk(tower)
        self.cls_token.copy_(tower.class_embedding.detach())
