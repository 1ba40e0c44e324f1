"""Everything that decides a pre-training run, section by section as in its TOML file.

Defaults are neutral; what the paper and the published configuration say stands in presets.py.
"""

from dataclasses import dataclass, field
from typing import Literal

from bt_model.config import BTAdapterConfig, Combination, Projection, TemporalConfig, TemporalKind
from bt_model.errors import require
from bt_model.training.objectives.captioner import CAPTION_REQUEST
from bt_model.training.objectives.contrastive import BEYOND, Gather, LossWeights
from bt_model.training.trainer.parallel import Parallel
from bt_model.training.trainer.precision import Precision
from bt_model.types import MAX_FRAMES, ReaderName

Format = Literal["webvid", "vindlu", "webdataset"]
Crop = Literal["random", "centre"]
Layout = Literal["tube", "published"]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Towers and the temporal model beside them.

    `clip` is a folder with a published tower (config.json and safetensors), `text` another one where its text
    tower lies apart, `tokenizer` a file or folder (default: that of `clip`). `init` is a checkpoint to start
    from. `captioner` is a frozen chat model over the same tower that says captions (`loss.caption`): a model
    file, or its name below `weights`. A gate scale of "none" leaves the gate out: a plain sum.
    """

    clip: str = "weights/clip-l14/clip"
    text: str = ""
    tokenizer: str = ""
    init: str = ""
    captioner: str = ""
    weights: str = "weights"
    kind: TemporalKind = "bt_adapter"
    is_open: bool = False
    layers: int = 4
    max_frames: int = 64
    middle_scale: float | None = 1.0
    output_scale: float | None = 1.0
    combination: Combination = "gate"
    projection: Projection = "zero"
    interaction: bool = True
    drop_path: float = 0.0
    time_std: float = 1.0

    @property
    def temporal(self) -> TemporalConfig:
        """Raises InvalidValueError: a value out of range."""
        branch = BTAdapterConfig(
            num_layers=self.layers, max_frames=self.max_frames, middle_scale=self.middle_scale,
            output_scale=self.output_scale, combination=self.combination, projection=self.projection,
            interaction=self.interaction, drop_path=self.drop_path,
        )  # fmt: skip
        inside = None if self.kind in ("bt_adapter", "stan") else self.layers
        return TemporalConfig(
            kind=self.kind, branch=branch, num_layers=inside, max_frames=self.max_frames,
            is_open=self.is_open, time_std=self.time_std,
        )  # fmt: skip

    def __post_init__(self) -> None:
        require(bool(self.clip), "clip", self.clip, "a folder")
        _ = self.temporal


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Clips with captions, and how they are read.

    `annotations` are files, or for webdataset tar shards; wildcards are allowed. `seconds` is how long one
    clip may take to decode; more than `max_broken` of all clips that fail end the run. `upstream_cut` cuts
    captions as published, where a long one loses its end marker.
    """

    format: Format = "webvid"
    annotations: tuple[str, ...] = ()
    root: str = "."
    frames: int = 8
    tokens: int = 32
    max_caption: int = 350
    upstream_cut: bool = False
    crop: Crop = "random"
    short_side: int = 256
    min_area: float = 0.08
    max_area: float = 1.0
    min_aspect: float = 3 / 4
    max_aspect: float = 4 / 3
    reader: ReaderName = "pyav"
    workers: int = 4
    prefetch: int = 3
    seconds: float = 30.0
    max_broken: float = 0.05

    def __post_init__(self) -> None:
        require(1 <= self.frames <= MAX_FRAMES, "frames", self.frames, f"1 to {MAX_FRAMES}")
        require(self.tokens >= 2, "tokens", self.tokens, "2 or more")  # noqa: PLR2004 - the two markers
        require(0 < self.min_area <= self.max_area <= 1, "min_area", self.min_area, "above 0, up to max_area")
        require(0 < self.min_aspect <= self.max_aspect, "min_aspect", self.min_aspect, "above 0, up to max")
        require(0 <= self.max_broken <= 1, "max_broken", self.max_broken, "0 to 1")
        for name in ("short_side", "workers", "prefetch", "seconds", "max_caption"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")


@dataclass(frozen=True, slots=True)
class MaskSettings:
    """Which share of the patches the branch does not see; "published" is the layout that is no tube.

    `unmasked` is the share of the steps, at the end of the run, in which it sees all of them.
    """

    rate: float = 0.7
    layout: Layout = "tube"
    unmasked: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.unmasked <= 1, "unmasked", self.unmasked, "0 to 1, a share of the steps")
        require(0 <= self.rate < 1, "rate", self.rate, "0 or more, below 1")


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Weights, the gradient of what is gathered over ranks, and whether clips of equal captions match.

    `chat`, `caption` and `anchor` go beyond the paper (objectives/captioner.py); `request` is what the
    captioner is asked for.
    """

    vtc: float = 1.0
    mbta: float = 1.0
    mbca: float = 1.0
    chat: float = 0.0
    caption: float = 0.0
    anchor: float = 0.0
    request: str = CAPTION_REQUEST
    gather: Gather = "exact"
    merged: bool = False

    def __post_init__(self) -> None:
        for name in LossWeights.__slots__:
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(bool(self.request.strip()), "request", self.request, "a sentence")

    @property
    def weights(self) -> LossWeights:
        return LossWeights(self.vtc, self.mbta, self.mbca, self.chat, self.caption, self.anchor)


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """AdamW, its rates and their course; `batch` is that of all devices together.

    A parameter's rate is `rate` times the factor in `rates` under the longest name that its own name
    contains. The rate warms up for `warmup_epochs` from `warmup_from` of its peak, then takes
    `cosine_epochs` for half a cosine down to `floor`; "none": the rest of the run.
    """

    batch: int = 64
    accumulate: int = 1
    epochs: int = 1
    rate: float = 1e-4
    rates: dict[str, float] = field(default_factory=dict[str, float])
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-8
    clip_norm: float = 5.0
    warmup_epochs: float = 0.05
    warmup_from: float | None = None
    cosine_epochs: float | None = None
    floor: float = 0.1

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "epochs", "rate", "eps", "clip_norm"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        require(
            self.batch % self.accumulate == 0, "accumulate", self.accumulate, f"a divisor of {self.batch}"
        )
        for name in ("weight_decay", "beta1", "beta2", "floor", "warmup_epochs"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How the run is computed. `steps` ends it early; 0 is all epochs. `keep` checkpoints stay."""

    seed: int = 0
    precision: Precision = "float32"
    parallel: Parallel = "ddp"
    device: str = "auto"
    compile: bool = False
    recompute: bool = False
    steps: int = 0
    save_every: int = 200
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("save_every", "keep"):
            require(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        require(self.steps >= 0, "steps", self.steps, "0 or more")
        require(self.seed >= 0, "seed", self.seed, "0 or more")


@dataclass(frozen=True, slots=True)
class PretrainSettings:
    """A whole run."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    mask: MaskSettings = field(default_factory=MaskSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if self.model.kind not in ("bt_adapter", "stan"):
            for name, value in (("loss.mbta", self.loss.mbta), ("loss.mbca", self.loss.mbca)):
                require(value == 0, name, value, f"0, since model.kind {self.model.kind!r} has no branch")
            require(self.mask.rate == 0, "mask.rate", self.mask.rate, f"0 for {self.model.kind!r}")
        require(
            self.data.frames <= self.model.max_frames, "data.frames", self.data.frames,
            f"up to model.max_frames, {self.model.max_frames}",
        )  # fmt: skip
        self._check_beyond()

    def _check_beyond(self) -> None:
        """What the losses that go beyond the paper need."""
        has_branch = self.model.kind in ("bt_adapter", "stan") and not self.model.is_open
        for name in BEYOND:
            value = getattr(self.loss, name)
            if value:
                where = f"loss.{name}"
                require(has_branch, where, value, "0, but for a branch over a frozen trunk")
                require(self.model.layers > 1, where, value, "0, since one layer leaves none for chat")
                require(self.mask.layout == "tube", where, value, "0, unless mask.layout is 'tube'")
        wanted = self.loss.caption > 0
        require(
            wanted == bool(self.model.captioner), "model.captioner", self.model.captioner,
            "a model file, since loss.caption has a weight" if wanted else "'', since loss.caption is 0",
        )  # fmt: skip
