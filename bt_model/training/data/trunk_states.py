"""What a frozen tower gives a temporal model, computed from frames or read from where it is stored.

B clips, T frames, H height, W width, S stored states, P patches, D width.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from bt_model.vision.encoder import hidden_states

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.clip import ClipVisionTower


@torch.no_grad()
def states_of(
    tower: "ClipVisionTower",
    clips: "Tensor",
    reads: range,
    stored: Sequence[int],
    normalise: "Callable[[Tensor], Tensor]",
) -> "list[Tensor]":
    """Hidden states `reads` of clips, each (B, T, 1 + P, D) float32.

    `clips` are frames (B, T, H, W, 3) uint8, or the `stored` states (B, S, T, 1 + P, D) of these numbers. If
    not all that is read is stored, the tower goes on from the first.
    """
    if not stored:
        pixels = normalise(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        return list(hidden_states(tower, pixels, reads).values())
    known = dict(zip(stored, (x.float() for x in clips.unbind(1)), strict=True))
    if set(reads) <= set(known):
        return [known[number] for number in reads]
    first = reads[0]
    return tower.advance(known[first], first, reads)
