"""From a clip's features to the (K, D) tokens that a backend projects; each pooling is a named function.

B clips, P patches, D width.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from bt_model.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.encoder import ChatFeatures


def patches_cls(features: "ChatFeatures") -> "Tensor":
    """Patches first, CLS last: (B, P + 1, D), as the published weights were trained (section 4.2)."""
    return torch.cat([features.patches, features.cls[:, None]], dim=1)


def patches(features: "ChatFeatures") -> "Tensor":
    """Patches only: (B, P, D), as the paper says."""
    return features.patches


POOLINGS: "dict[str, Callable[[ChatFeatures], Tensor]]" = {"patches_cls": patches_cls, "patches": patches}


def pooling(name: str) -> "Callable[[ChatFeatures], Tensor]":
    """The pooling of that name.

    Raises:
        UnknownNameError: no such pooling.
    """
    if name not in POOLINGS:
        raise UnknownNameError(f"pooling is {name!r}; allowed: {', '.join(POOLINGS)}", param="pooling")
    return POOLINGS[name]
