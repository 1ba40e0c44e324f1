"""What a row has said so far, and what penalties make of its logits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from bt_model.generation.request import GenRequest

_FIRST_ROOM = 64


class History:
    """The different ids of an answer, each with the number of times that it was said."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._ids: NDArray[np.int64] = np.zeros(_FIRST_ROOM, np.int64)
        self._counts: NDArray[np.float32] = np.zeros(_FIRST_ROOM, np.float32)
        self._num_seen = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def ids(self) -> "NDArray[np.int64]":
        return self._ids[: len(self)]

    @property
    def counts(self) -> "NDArray[np.float32]":
        return self._counts[: len(self)]

    def update(self, said: "Sequence[int]") -> None:
        """Take in what is new of an answer."""
        for token in said[self._num_seen :]:
            place = self._places.setdefault(token, len(self._places))
            if place == len(self._ids):
                self._ids = np.concatenate((self._ids, np.zeros_like(self._ids)))
                self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
            self._ids[place] = token
            self._counts[place] += 1
        self._num_seen = len(said)


@dataclass(frozen=True, slots=True)
class Said:
    """The histories of several rows, one after another: (row, id) pairs with counts and the rows' options."""

    rows: "NDArray[np.int64]"
    ids: "NDArray[np.int64]"
    counts: "NDArray[np.float32]"
    repetition: "NDArray[np.float32]"
    presence: "NDArray[np.float32]"
    frequency: "NDArray[np.float32]"

    @classmethod
    def of(cls, histories: "Sequence[History]", requests: "Sequence[GenRequest]") -> "Said":
        held = [(i, h, r) for i, (h, r) in enumerate(zip(histories, requests, strict=True)) if r.has_penalty]
        lengths = [len(history) for _, history, _ in held]

        def repeated(values: list[float]) -> "NDArray[np.float32]":
            return np.repeat(np.array(values, np.float32), lengths)

        return cls(
            np.repeat(np.array([row for row, _, _ in held], np.int64), lengths),
            np.concatenate([history.ids for _, history, _ in held]),
            np.concatenate([history.counts for _, history, _ in held]),
            repeated([request.repetition_penalty for _, _, request in held]),
            repeated([request.presence_penalty for _, _, request in held]),
            repeated([request.frequency_penalty for _, _, request in held]),
        )

    def penalise(self, logits: "Tensor") -> None:
        """Change logits (B, V) in place: repetition divides or multiplies, the others subtract."""
        device, width = logits.device, logits.shape[1]
        flat = torch.from_numpy(self.rows * width + self.ids).to(device)
        logits = logits.view(-1)
        old = logits[flat]
        factor = torch.from_numpy(self.repetition).to(device)
        less = torch.from_numpy(self.presence + self.frequency * self.counts).to(device)
        logits[flat] = torch.where(old > 0, old / factor, old * factor) - less
