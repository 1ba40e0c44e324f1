"""One pass of prompts through a decoder, in parts: other steps are computed between them."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from bt_model.generation.job import Work
    from bt_model.generation.language_model import Runner
    from bt_model.generation.step import StepTensors


class PromptPass:
    """A pass of `work` that has begun: what is left of it, and how long its parts take."""

    def __init__(self, work: "Sequence[Work]", runner: "Runner", tensors: "StepTensors") -> None:
        self.work = work
        self.num_tokens = sum(each.chunk.count for each in work)
        self.parts = runner.forward(tensors.embed(work), [each.chunk for each in work])
        self.longest = 0.0  # part so far, in seconds
        self._begun = self._last = 0.0

    def go_on(self) -> None:
        """In a step that begins now."""
        self._begun = self._last = time.monotonic()

    def has_time(self, seconds: float) -> bool:
        """A part has ended; whether the step that may take so long has time for another."""
        if torch.cuda.is_available():  # its time is that of the device, not of launches
            torch.cuda.current_stream().synchronize()
        now = time.monotonic()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        return now + self.longest - self._begun <= seconds
