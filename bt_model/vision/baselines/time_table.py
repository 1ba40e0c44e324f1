"""The time table of the models inside the trunk."""

from typing import TYPE_CHECKING

from bt_model.errors import InvalidValueError

if TYPE_CHECKING:
    from torch import Tensor, nn


def times(table: "nn.Embedding", num_frames: int) -> "Tensor":
    """The first T rows of a table, (T, 1, D), broadcastable to tokens (B, T, N, D).

    Raises:
        InvalidValueError: more frames than rows.
    """
    if num_frames > table.num_embeddings:
        raise InvalidValueError(
            f"num_frames is {num_frames}; allowed: 1 to {table.num_embeddings}", param="num_frames"
        )
    return table.weight[:num_frames, None]
