"""Our modules' tensors under the names of a published layout."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bt_model.checkpoints.keys import OWN
from bt_model.errors import InvalidValueError

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.checkpoints.keys import KeyMap


def published(parts: "Mapping[str, Mapping[str, Tensor]]", keys: "KeyMap" = OWN) -> "dict[str, Tensor]":
    """State dicts by part (checkpoints.keys.PARTS) -> one flat dict in the names and shapes of `keys`.

    Raises:
        InvalidValueError: a tensor that the layout does not hold.
    """
    flat: dict[str, Tensor] = {}
    for part, state in parts.items():
        for name, tensor in state.items():
            key = keys.published(f"{part}.{name}")
            if key is None:
                raise InvalidValueError(
                    f"{part}.{name} has no name in the layout {keys.name!r}", param="keys"
                )
            is_cls = keys is not OWN and (part, name) == ("adapter", "cls_token")
            flat[key] = (tensor.view(1, 1, -1) if is_cls else tensor).detach().contiguous()
    return flat
