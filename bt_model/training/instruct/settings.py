"""All settings of instruction tuning, section by section as in its TOML file.

Defaults are neutral; what the paper and the published script say stands in training/presets.
"""

from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from bt_model.config import TemporalConfig
from bt_model.errors import require
from bt_model.settings.section import Count, Positive, Section, Share, Text
from bt_model.training.settings import DataSettings, OptimiserSettings, RunSettings
from bt_model.training.trainer.optimiser import Schedule, schedule_of
from bt_model.types import Strategy
from bt_model.video.sample import SAMPLERS

Place = Literal["template", "published"]
Weighing = Literal["dialogue", "token"]
LoraForm = Literal["adapter", "merged"]
LoraTarget = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA_TARGETS: tuple[LoraTarget, ...] = get_args(LoraTarget)
BASE, FRESH = "base", "fresh"


class InstructModel(Section):
    """The chat model that is tuned, and how it is used.

    `base` is a model file, or its name below `weights`. `adapter` is where the temporal model starts: "base"
    as the model file has it, "fresh" as section `temporal` describes it, or a checkpoint. An empty `pooling`
    or `template` is the base's; `served_template` is written into the tuned model's file, empty: the same.
    """

    base: Text = "weights/llava-v1/llava-v1.model.json"
    weights: str = "weights"
    adapter: Text = BASE
    pooling: str = ""
    template: str = ""
    served_template: str = ""
    name: Text = "tuned"

    @model_validator(mode="after")
    def _require_one_file(self) -> Self:
        require("/" not in self.name, "name", self.name, "a name without slashes")
        return self


class InstructData(DataSettings):
    """Dialogues about videos, and how both are read.

    `annotations` are VideoChatGPT-100K's list or its conversations; the videos lie anywhere below `root`.
    `features` is a folder of `btchat train features`, read instead of videos. `place` is where the video
    stands in the first question: as the template says, or as published, after it in every other row. A
    dialogue of more than `max_length` tokens (0: the language model's context) loses its last turns; one
    whose first turn is too long is left out. `short_side` scales a frame before its middle is cut out; 0: as
    the base serves.
    """

    features: str = ""
    place: Place = "template"
    max_length: int = Field(default=0, ge=0)
    strategy: Strategy = "published"
    short_side: int = Field(default=0, ge=0)
    seconds: Positive = 120.0

    @model_validator(mode="after")
    def _require_the_same_frames_every_time(self) -> Self:
        steady = [name for name, sampler in SAMPLERS.items() if not sampler.uses_seed]
        require(self.strategy in steady, "strategy", self.strategy, ", ".join(steady))
        return self


class LearnSettings(Section):
    """What is trained; CLIP and, except for LoRA, the language model are frozen.

    `gates` are a branch's gate vectors, `tokens` the embeddings of the video's start and end markers.
    `lora_rank` 0: no LoRA. LoRA is saved beside the model, or merged into a copy of the language model.
    """

    projector: bool = True
    temporal: bool = True
    gates: bool = True
    tokens: bool = False
    lora_rank: int = Field(default=0, ge=0)
    lora_alpha: Positive = 16.0
    lora_on: tuple[LoraTarget, ...] = Field(default=("q_proj", "v_proj"), min_length=1)
    lora_saved: LoraForm = "adapter"

    @model_validator(mode="after")
    def _require_something_that_learns(self) -> Self:
        learns = self.projector or self.temporal or self.tokens or self.lora_rank
        require(bool(learns), "projector", False, "true, where nothing else learns")
        return self


class InstructOptimiser(OptimiserSettings):
    """The rate rises during the share `warmup` of the run, then falls half a cosine down to `floor`.

    `weigh` says whether dialogues or answer tokens count alike.
    """

    batch: Count = 8
    epochs: Count = 3
    rate: Positive = 2e-5
    weigh: Weighing = "token"
    warmup: Share = 0.03


class InstructRun(RunSettings):
    """`recompute` is for the language model's layers."""

    save_every: Count = 500


class InstructSettings(Section):
    """A whole run; `temporal` is used if model.adapter is "fresh"."""

    model: InstructModel = InstructModel()
    temporal: TemporalConfig = TemporalConfig()
    data: InstructData = InstructData()
    learn: LearnSettings = LearnSettings()
    optimiser: InstructOptimiser = InstructOptimiser()
    run: InstructRun = InstructRun()

    @model_validator(mode="after")
    def _require_that_a_fresh_branch_learns(self) -> Self:
        ok = self.learn.temporal or self.model.adapter != FRESH
        require(ok, "learn.temporal", False, f"true where model.adapter is {FRESH!r}")
        return self

    def schedule(self, steps_per_epoch: int) -> Schedule:
        """The run's length and learning rate schedule."""
        given = self.optimiser
        return schedule_of(given, self.run.precision, steps_per_epoch, warmup=given.warmup)
