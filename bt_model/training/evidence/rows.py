"""The grid: one row for every model that the paper's tables and figures compare, and for the search of a recipe.

Everything that decides a row stands here, fixed before it is run.
"""

from dataclasses import dataclass, field, replace

from bt_model.config import BTAdapterConfig, TemporalConfig
from bt_model.training.config import LossWeights

VTC = LossWeights(vtc=1.0, mbta=0.0, mbca=0.0)
ALL = LossWeights()


@dataclass(frozen=True, slots=True)
class Row:
    """One model and how it is pre-trained; `tables` are the paper's tables and figures that it stands in.

    `unmasked` is the share of the steps at the end that see every patch, `static` the share of captions that
    leave the event out.
    """

    name: str
    about: str
    tables: tuple[str, ...]
    model: TemporalConfig = field(default_factory=TemporalConfig)
    losses: LossWeights = ALL
    mask_rate: float = 0.7
    unmasked: float = 0.0
    static: float = 0.3
    is_trained: bool = True


BRANCH = BTAdapterConfig(num_layers=3, middle_scale=1.0, output_scale=1.0)
BASE = Row(
    "bt-adapter", "BT-Adapter", ("6", "7", "10", "11", "F3", "F4"), TemporalConfig("bt_adapter", BRANCH)
)


def _branch(**changes: object) -> TemporalConfig:
    return TemporalConfig("bt_adapter", replace(BRANCH, **changes))  # pyright: ignore[reportArgumentType]
