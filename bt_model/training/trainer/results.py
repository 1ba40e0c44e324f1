"""What one part of a step gives the loop: read a batch, compute its losses."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import torch

from bt_model.training.data.sampling import step_seed
from bt_model.training.trainer.parallel import World

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class StepResult:
    """One part of a step: the loss to descend, the losses that it is the sum of, and what its batch cost.

    `losses` are logged beside the loss; `num_clips` and `num_skipped` count this rank's clips of this part.
    """

    loss: "Tensor"
    losses: "Mapping[str, Tensor]" = field(default_factory=dict[str, "Tensor"])
    num_clips: int = 0
    waited_seconds: float = 0.0
    num_skipped: int = 0


ResultAt = Callable[[int, int], StepResult]  # of a step, and of a part of it


class LoadedBatch(Protocol):
    """What a step is computed from: some clips, after `num_skipped` that could not be read."""

    @property
    def num_skipped(self) -> int: ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Self: ...


B = TypeVar("B", bound=LoadedBatch)
B_co = TypeVar("B_co", bound=LoadedBatch, covariant=True)


class BatchSource(Protocol[B_co]):
    """Gives the batch of a part of a step, which depends on these two numbers alone."""

    def batch(self, step: int, part: int = 0) -> B_co: ...


def results_from(
    batches: BatchSource[B], losses_of: "Callable[[B], Mapping[str, Tensor]]", world: World, seed: int
) -> ResultAt:
    """Read a batch, compute its losses on this process's device, add them up."""

    def result_at(step: int, part: int) -> StepResult:
        begin = time.monotonic()
        batch = batches.batch(step, part)
        waited = time.monotonic() - begin
        torch.manual_seed(step_seed(seed, step, part, world.rank))  # stochastic depth
        losses = losses_of(batch.to(world.device))
        total = torch.stack(list(losses.values())).sum()
        logged = losses if len(losses) > 1 else {}
        return StepResult(total, logged, len(batch), waited, batch.num_skipped)

    return result_at
