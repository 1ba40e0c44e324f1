"""What the settings of every kind of training have in common, section by section."""

from typing import Self

from pydantic import Field, model_validator

from bt_model.errors import require
from bt_model.settings.section import Count, NotNegative, Positive, Section, Share
from bt_model.training.trainer.optimiser import Precision
from bt_model.training.trainer.parallel import Parallel
from bt_model.types import MAX_FRAMES, ReaderName


class DataSettings(Section):
    """Videos, and how they are read.

    `annotations` are files; wildcards are allowed. `root` holds the videos. `seconds` is how long one video
    may take to decode; more than `max_broken` of all that fail end the run.
    """

    annotations: tuple[str, ...] = ()
    root: str = "."
    frames: int = Field(default=8, ge=1, le=MAX_FRAMES)
    reader: ReaderName = "pyav"
    workers: Count = 4
    prefetch: Count = 3
    seconds: Positive = 30.0
    max_broken: Share = 0.05


class OptimiserSettings(Section):
    """AdamW and its rates; `batch` is that of all devices together.

    A parameter's rate is `rate` times the factor in `rates` under the longest name that its own name
    contains.
    """

    batch: Count = 64
    accumulate: Count = 1
    epochs: Count = 1
    rate: Positive = 1e-4
    rates: dict[str, float] = Field(default_factory=dict[str, float])
    weight_decay: NotNegative = 0.0
    beta1: NotNegative = 0.9
    beta2: NotNegative = 0.999
    eps: Positive = 1e-8
    clip_norm: Positive = 1.0
    floor: NotNegative = 0.0

    @model_validator(mode="after")
    def _require_equal_parts(self) -> Self:
        ok = self.batch % self.accumulate == 0
        require(ok, "accumulate", self.accumulate, f"a divisor of {self.batch}")
        return self


class RunSettings(Section):
    """How the run is computed. `steps` ends it early; 0 is all epochs. `keep` checkpoints are kept.

    `recompute` keeps only the inputs of layers for the way back.
    """

    seed: int = Field(default=0, ge=0)
    precision: Precision = "float32"
    parallel: Parallel = "ddp"
    device: str = "auto"
    recompute: bool = False
    steps: int = Field(default=0, ge=0)
    save_every: Count = 200
    keep: Count = 2
