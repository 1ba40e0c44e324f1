"""Everything that decides a run of instruction tuning, section by section as in its TOML file.

Defaults are neutral; what the paper and the published script say stands in presets.py.
"""

from dataclasses import dataclass, field
from typing import Literal

from bt_model.config import TemporalConfig
from bt_model.errors import require
from bt_model.training.trainer.parallel import Parallel
from bt_model.training.trainer.precision import Precision
from bt_model.types import MAX_FRAMES, ReaderName, Strategy
from bt_model.video.sample import SAMPLERS

Place = Literal["template", "published"]
Weighing = Literal["dialogue", "token"]
LoraForm = Literal["adapter", "merged"]
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BASE, FRESH = "base", "fresh"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The chat model that is tuned, and how it is used.

    `base` is a model file, or its name below `weights`. `adapter` is where the temporal model starts: "base"
    as the model file has it, "fresh" as section `temporal` describes it, or a checkpoint. An empty `pooling`
    or `template` is the base's; `served_template` is written into the tuned model's file, empty: the same.
    """

    base: str = "weights/llava-v1/llava-v1.model.json"
    weights: str = "weights"
    adapter: str = BASE
    pooling: str = ""
    template: str = ""
    served_template: str = ""
    name: str = "tuned"

    def __post_init__(self) -> None:
        for name in ("base", "adapter", "name"):
            require(bool(getattr(self, name)), name, getattr(self, name), "a name or path")
        require("/" not in self.name, "name", self.name, "a name without slashes")


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Dialogues about videos, and how both are read.

    `annotations` are VideoChatGPT-100K's list or its conversations; wildcards are allowed. `root` holds the
    videos, anywhere below it. `features` is a folder of `btchat train features`, read instead of videos.
    `place` is where the video stands in the first question: as the template says, or as published, after it
    in every other row. A dialogue of more than `max_length` tokens (0: the language model's context) loses
    its last turns; one whose first turn is too long is left out. `short_side` scales a frame before its
    middle is cut out; 0: as the base serves.
    `seconds` is how long one video may take to decode; more than `max_broken` that fail end the run.
    """

    annotations: tuple[str, ...] = ()
    root: str = "."
    features: str = ""
    place: Place = "template"
    max_length: int = 0
    frames: int = 8
    strategy: Strategy = "uniform"
    short_side: int = 0
    reader: ReaderName = "pyav"
    workers: int = 4
    prefetch: int = 3
    seconds: float = 120.0
    max_broken: float = 0.05

    def __post_init__(self) -> None:
        require(1 <= self.frames <= MAX_FRAMES, "frames", self.frames, f"1 to {MAX_FRAMES}")
        steady = [name for name, sampler in SAMPLERS.items() if not sampler.uses_seed]
        require(self.strategy in steady, "strategy", self.strategy, ", ".join(steady))
        require(0 <= self.max_broken <= 1, "max_broken", self.max_broken, "0 to 1")
        for name in ("short_side", "max_length"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("workers", "prefetch", "seconds"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")


@dataclass(frozen=True, slots=True)
class LearnSettings:
    """What learns; CLIP and, but for LoRA, the language model are frozen.

    `gates` are a branch's gate vectors, `tokens` the embeddings of the video's start and end markers.
    `lora_rank` 0 is no LoRA; it is saved beside the model, or merged into a copy of the language model.
    """

    projector: bool = True
    temporal: bool = True
    gates: bool = True
    tokens: bool = False
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_on: tuple[str, ...] = ("q_proj", "v_proj")
    lora_saved: LoraForm = "adapter"

    def __post_init__(self) -> None:
        require(self.lora_rank >= 0, "lora_rank", self.lora_rank, "0 or more")
        require(self.lora_alpha > 0, "lora_alpha", self.lora_alpha, "above 0")
        known = bool(self.lora_on) and set(self.lora_on) <= set(LORA_TARGETS)
        require(known, "lora_on", list(self.lora_on), f"some of {', '.join(LORA_TARGETS)}")
        learns = self.projector or self.temporal or self.tokens or self.lora_rank
        require(bool(learns), "projector", False, "true, where nothing else learns")


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """AdamW and its rate's course: up during the share `warmup` of the run, then down half a cosine.

    `batch` is that of all devices together. `rates` are factors of `rate` for parameters whose names contain
    a text, the longest one deciding. `weigh` says whether dialogues or answer tokens count alike.
    """

    batch: int = 8
    accumulate: int = 1
    epochs: int = 3
    rate: float = 2e-5
    rates: dict[str, float] = field(default_factory=dict[str, float])
    weigh: Weighing = "token"
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    clip_norm: float = 1.0
    warmup: float = 0.03
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "epochs", "rate", "eps", "clip_norm"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        require(
            self.batch % self.accumulate == 0, "accumulate", self.accumulate, f"a divisor of {self.batch}"
        )
        for name in ("weight_decay", "beta1", "beta2", "floor"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 <= self.warmup <= 1, "warmup", self.warmup, "0 to 1, a share of the run")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How the run is computed. `steps` ends it early; 0 is all epochs. `keep` checkpoints stay.

    `recompute` keeps only the inputs of the language model's layers for the way back.
    """

    seed: int = 0
    precision: Precision = "float32"
    parallel: Parallel = "ddp"
    device: str = "auto"
    recompute: bool = False
    steps: int = 0
    save_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("save_every", "keep"):
            require(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        for name in ("steps", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


@dataclass(frozen=True, slots=True)
class InstructSettings:
    """A whole run; `temporal` counts where model.adapter is "fresh"."""

    model: ModelSettings = field(default_factory=ModelSettings)
    temporal: TemporalConfig = field(default_factory=TemporalConfig)
    data: DataSettings = field(default_factory=DataSettings)
    learn: LearnSettings = field(default_factory=LearnSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        fresh = self.model.adapter == FRESH
        require(
            self.learn.temporal or not fresh,
            "learn.temporal",
            False,
            f"true where model.adapter is {FRESH!r}",
        )
