"""A stage to run, as the loop takes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from bt_model.training.distributed import Synced, World, always_synced
from bt_model.training.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

SAVE_EVERY = 100


@dataclass(frozen=True, slots=True)
class Told:
    """What one part of a step told: the loss to descend, what it is made of, and what its batch cost.

    `parts` are logged beside the loss; `num_clips` and `num_skipped` count this rank's clips of this part.
    """

    loss: "Tensor"
    parts: "Mapping[str, Tensor]" = field(default_factory=dict[str, "Tensor"])
    num_clips: int = 0
    waited_seconds: float = 0.0
    num_skipped: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """What is saved, what learns, how long, and from which losses.

    `told_at(step, part)` must draw whatever is random from the two numbers alone. `groups` are AdamW's:
    dictionaries of `params`, and where wanted `lr`, `weight_decay` and `name`; a rate is the peak, the
    schedule's factor is applied to all. `synced` is that of `spread`. With `flops_per_clip` the log has the
    model FLOP utilisation; `watched` values become histograms. With `stop_after` the run ends after so many
    steps, and can go on later.
    """

    name: str
    modules: Mapping[str, nn.Module]
    groups: Sequence[Mapping[str, Any]]
    schedule: Schedule
    told_at: Callable[[int, int], Told]
    work: Path
    world: World = field(default_factory=World)
    synced: Synced = always_synced
    save_every: int = SAVE_EVERY
    keep: int = 1
    stop_after: int | None = None
    flops_per_clip: float = 0.0
    with_events: bool = False
    watched: "Mapping[str, Callable[[], Tensor]]" = field(default_factory=dict[str, "Callable[[], Tensor]"])

    @property
    def num_steps(self) -> int:
        """Where this run ends."""
        end = self.schedule.num_steps
        return end if self.stop_after is None else min(end, self.stop_after)
