"""All settings of a pre-training run, section by section as in its TOML file.

Defaults are neutral; what the paper and the published configuration say stands in training/presets.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from bt_model.config import (
    BRANCH_KINDS,
    BTAdapterConfig,
    Combination,
    Projection,
    TemporalConfig,
    TemporalKind,
)
from bt_model.errors import require
from bt_model.settings.section import Count, NotNegative, Positive, Section, Share, Text
from bt_model.training.objectives.captioner import CAPTION_REQUEST
from bt_model.training.objectives.contrastive import BEYOND, Gather, LossWeights
from bt_model.training.settings import DataSettings, OptimiserSettings, RunSettings
from bt_model.training.trainer.optimiser import Schedule, schedule_of

Format = Literal["webvid", "vindlu", "webdataset"]
Crop = Literal["random", "centre"]
Layout = Literal["tube", "published"]


class PretrainModel(Section):
    """Towers and the temporal model beside them.

    `clip` is a folder with a published tower (config.json and safetensors), `text` another one where its text
    tower is elsewhere, `tokenizer` a file or folder (default: that of `clip`). `init` is a checkpoint to
    start from. `captioner` is a frozen chat model over the same tower (`loss.caption`): a model file, or its
    name below `weights`. A gate scale of "none" means a plain sum.
    """

    clip: Text = "weights/clip-l14/clip"
    text: str = ""
    tokenizer: str = ""
    init: str = ""
    captioner: str = ""
    weights: str = "weights"
    kind: TemporalKind = "bt_adapter"
    is_open: bool = False
    layers: Count = 4
    max_frames: Count = 64
    middle_scale: float | None = 1.0
    output_scale: float | None = 1.0
    combination: Combination = "gate"
    projection: Projection = "zero"
    interaction: bool = True
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    time_std: NotNegative = 1.0

    @property
    def has_branch(self) -> bool:
        return self.kind in BRANCH_KINDS

    @property
    def temporal(self) -> TemporalConfig:
        branch = BTAdapterConfig(
            num_layers=self.layers, max_frames=self.max_frames, middle_scale=self.middle_scale,
            output_scale=self.output_scale, combination=self.combination, projection=self.projection,
            interaction=self.interaction, drop_path=self.drop_path,
        )  # fmt: skip
        return TemporalConfig(
            kind=self.kind, branch=branch, num_layers=None if self.has_branch else self.layers,
            max_frames=self.max_frames, is_open=self.is_open, time_std=self.time_std,
        )  # fmt: skip


class PretrainData(DataSettings):
    """Clips with captions; for webdataset, `annotations` are tar shards.

    `upstream_cut` cuts captions as published, where a long one loses its end marker.
    """

    format: Format = "webvid"
    tokens: int = Field(default=32, ge=2)  # the two markers
    max_caption: Count = 350
    upstream_cut: bool = False
    crop: Crop = "random"
    short_side: Count = 256
    min_area: Positive = 0.08
    max_area: float = Field(default=1.0, gt=0, le=1)
    min_aspect: Positive = 3 / 4
    max_aspect: Positive = 4 / 3

    @model_validator(mode="after")
    def _require_ranges(self) -> Self:
        require(self.min_area <= self.max_area, "min_area", self.min_area, "above 0, up to max_area")
        require(
            self.min_aspect <= self.max_aspect, "min_aspect", self.min_aspect, "above 0, up to max_aspect"
        )
        return self


class MaskSettings(Section):
    """The share of masked patches and their layout; "published" is no tube (training/data/sampling.py).

    `unmasked` is the share of the steps, at the end of the run, without a mask.
    """

    rate: float = Field(default=0.7, ge=0, lt=1)
    layout: Layout = "tube"
    unmasked: Share = 0.0


class LossSettings(Section):
    """Weights, the gradient of what is gathered over ranks, and whether clips of equal captions match.

    `chat`, `caption` and `anchor` go beyond the paper (objectives/captioner.py); `request` is what the
    captioner is asked for.
    """

    vtc: NotNegative = 1.0
    mbta: NotNegative = 1.0
    mbca: NotNegative = 1.0
    chat: NotNegative = 0.0
    caption: NotNegative = 0.0
    anchor: NotNegative = 0.0
    request: str = CAPTION_REQUEST
    gather: Gather = "exact"
    merged: bool = False

    @model_validator(mode="after")
    def _require_a_request(self) -> Self:
        require(bool(self.request.strip()), "request", self.request, "a sentence")
        return self

    @property
    def weights(self) -> LossWeights:
        return LossWeights(self.vtc, self.mbta, self.mbca, self.chat, self.caption, self.anchor)


class PretrainOptimiser(OptimiserSettings):
    """The course of the rate: up from `warmup_from` of its peak, then half a cosine down to `floor`.

    The first takes `warmup_epochs`, the second `cosine_epochs`; "none": the rest of the run.
    """

    weight_decay: NotNegative = 0.05
    beta2: NotNegative = 0.98
    clip_norm: Positive = 5.0
    warmup_epochs: NotNegative = 0.05
    warmup_from: float | None = None
    cosine_epochs: float | None = None
    floor: NotNegative = 0.1


class PretrainRun(RunSettings):
    """`compile` compiles the towers and the branch."""

    compile: bool = False


class PretrainSettings(Section):
    """A whole run."""

    model: PretrainModel = PretrainModel()
    data: PretrainData = PretrainData()
    mask: MaskSettings = MaskSettings()
    loss: LossSettings = LossSettings()
    optimiser: PretrainOptimiser = PretrainOptimiser()
    run: PretrainRun = PretrainRun()

    @model_validator(mode="after")
    def _require_what_the_kind_has(self) -> Self:
        if not self.model.has_branch:
            for name, value in (("loss.mbta", self.loss.mbta), ("loss.mbca", self.loss.mbca)):
                require(value == 0, name, value, f"0, since model.kind {self.model.kind!r} has no branch")
            require(self.mask.rate == 0, "mask.rate", self.mask.rate, f"0 for {self.model.kind!r}")
        most = self.model.max_frames
        require(self.data.frames <= most, "data.frames", self.data.frames, f"up to model.max_frames, {most}")
        return self

    @model_validator(mode="after")
    def _require_what_losses_need(self) -> Self:
        """Those that go beyond the paper."""
        for name in BEYOND:
            value = getattr(self.loss, name)
            if value:
                where = f"loss.{name}"
                can_read = self.model.has_branch and not self.model.is_open
                require(can_read, where, value, "0, but for a branch over a frozen trunk")
                require(self.model.layers > 1, where, value, "0, since one layer leaves none for chat")
                require(self.mask.layout == "tube", where, value, "0, unless mask.layout is 'tube'")
        wanted = self.loss.caption > 0
        require(
            wanted == bool(self.model.captioner), "model.captioner", self.model.captioner,
            "a model file, since loss.caption has a weight" if wanted else "'', since loss.caption is 0",
        )  # fmt: skip
        return self

    def schedule(self, steps_per_epoch: int) -> Schedule:
        """The run's length and schedule, with epochs converted to shares of the run."""
        given = self.optimiser
        return schedule_of(
            given,
            self.run.precision,
            steps_per_epoch,
            warmup=given.warmup_epochs / given.epochs,
            warmup_from=given.warmup_from,
            period=None if given.cosine_epochs is None else given.cosine_epochs / given.epochs,
        )
