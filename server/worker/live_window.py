"""The window of one live session: the hidden states of its last frames, in a ring that never grows.

F frames of the window, R hidden states that the model's chat path starts from, P patches, D width.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from bt_model.errors import FeaturesMissingError

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.chat import VideoChat


def frame_bytes(chat: "VideoChat") -> int:
    """What a model keeps of one frame."""
    encoder = chat.encoder
    position = encoder.tower.position  # (1 + P, D)
    return len(encoder.chat_reads) * position.nbytes


class LiveWindow:
    """Frames have consecutive numbers from 0. The vision thread alone writes and reads states."""

    def __init__(self, model: str, max_frames: int, num_bytes: int) -> None:
        self.model = model
        self.num_bytes = num_bytes
        self._max_frames = max_frames
        self._next = 0
        self._ring: Tensor | None = None  # (R, F, 1 + P, D), once there is a frame

    def keep(self, number: int, states: "Tensor") -> None:
        """A frame's states (R, 1 + P, D), in the place of the oldest frame's."""
        if self._ring is None:
            self._ring = states.new_empty((len(states), self._max_frames, *states.shape[1:]))
        self._ring[:, number % self._max_frames] = states
        self._next = number + 1

    def states(self, numbers: Sequence[int]) -> "Tensor":
        """Those of some frames, (R, T, 1 + P, D); raises FeaturesMissingError where newer ones came."""
        oldest = max(self._next - self._max_frames, 0)
        if self._ring is None or any(not oldest <= number < self._next for number in numbers):
            raise FeaturesMissingError(
                "newer frames have taken the place of those that the question is about"
            )
        places = torch.tensor([number % self._max_frames for number in numbers], device=self._ring.device)
        return self._ring.index_select(1, places)
