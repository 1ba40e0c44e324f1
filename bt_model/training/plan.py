"""What `--dry-run` shows: steps, groups, FLOPs, memory, hours; published sizes stand for missing files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_model.assembly.catalog import find
from bt_model.assembly.towers import TowerConfigs
from bt_model.backends.parts.llm import read_llama_config
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.config import CLIP_L14, EVA_G14, VICUNA_7B, ClipTextConfig, Family, TemporalConfig
from bt_model.errors import UnknownNameError, require
from bt_model.training.data.clip_list import MissingFiles, matching, missing_files, read_clips
from bt_model.training.data.dialogues import read_dialogues
from bt_model.training.instruct.base import load_temporal_model, read_base
from bt_model.training.instruct.corpus import read_corpus
from bt_model.training.instruct.cost import ChatModelConfigs, Lengths, flops_per_dialogue, meta_instruct_step
from bt_model.training.instruct.settings import InstructSettings
from bt_model.training.pretrain.captioner import captioner_file, is_captioner_there
from bt_model.training.pretrain.cost import (
    MetaCaptioner,
    flops_per_clip,
    kept_bytes_per_clip,
    meta_pretrain_step,
)
from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.pretrain.step import towers_of
from bt_model.training.settings import plain
from bt_model.training.trainer.cost import PEAKS
from bt_model.training.trainer.optimiser import ADAM_BYTES, described, parameter_groups

if TYPE_CHECKING:
    from torch import nn

    from bt_model.training.instruct.step import InstructStep

_TEXT_L14 = ClipTextConfig(49408, 77, 768, 12, 12, 3072, CLIP_L14.projection_dim)
_TEXT_EVA = replace(_TEXT_L14, projection_dim=EVA_G14.projection_dim, act="gelu")
PUBLISHED_TOWERS: dict[Family, TowerConfigs] = {
    "clip": TowerConfigs(CLIP_L14, _TEXT_L14),
    "eva": TowerConfigs(EVA_G14, _TEXT_EVA),
}
PUBLISHED_CHAT = ChatModelConfigs(CLIP_L14, TemporalConfig(), VICUNA_7B, "patches_cls")
WEBVID_CLIPS = 2_500_000  # of WebVid-2M, assumed where the annotations are not there
DIALOGUES = 100_010  # of VideoChatGPT-100K, likewise
TYPICAL = Lengths(420, 90)  # of one of its dialogues, 257 video tokens among them
_EXPECTED_MFU = 0.4
_SHOWN_GPUS = ("V100", "A100", "H100")


def plan_pretraining(
    settings: PretrainSettings, work: Path, num_devices: int = 1, rate: float | None = None
) -> dict[str, Any]:
    """Settings, assumptions about missing files, and the plan of a pre-training run.

    Raises:
        InvalidValueError: no device, a rate of 0, annotations that cannot be read.
        CheckpointError: towers that cannot be read.
    """
    assumed: list[str] = []
    has_towers = (Path(settings.model.clip) / "config.json").is_file()
    family: Family = "eva" if "eva" in Path(settings.model.clip).name else "clip"
    if not has_towers:
        assumed.append(f"{settings.model.clip} is not there: the published {family} tower is assumed")
    towers = towers_of(settings.model) if has_towers else PUBLISHED_TOWERS[family]
    num_clips, missing = WEBVID_CLIPS, None
    if any(matching(pattern) for pattern in settings.data.annotations):
        clips = read_clips(settings.data, work)
        num_clips, missing = len(clips), missing_files(clips)
    else:
        assumed.append("data.annotations are not there: WebVid-2M is assumed")
    if not is_captioner_there(settings):
        # only a set that is yet to be fetched may be assumed, beside towers that are
        if has_towers or Path(settings.model.captioner).exists():
            captioner_file(settings)
        assumed.append(f"{settings.model.captioner} is not there: LLaVA 7B is assumed")
    plan = PretrainPlan(settings, towers, num_clips, missing, num_devices, rate)
    return {"settings": plain(settings), "assumed": assumed, **plan.describe()}


def plan_tuning(settings: InstructSettings, num_devices: int = 1) -> dict[str, Any]:
    """Settings, assumptions about missing files, and the plan of instruction tuning.

    Raises:
        InvalidValueError: annotations that cannot be read, or settings that do not fit.
        CheckpointError: a base model whose parts cannot be read.
    """
    assumed: list[str] = []
    has_dialogues = any(matching(pattern) for pattern in settings.data.annotations)
    if not has_dialogues:
        assumed.append("data.annotations are not there: VideoChatGPT-100K is assumed")
    if _has_base(settings):
        plan = _plan_beside_base(settings, num_devices, has_dialogues=has_dialogues)
    else:
        assumed.append(f"{settings.model.base} is not there: LLaVA 7B with the published branch is assumed")
        num = len(read_dialogues(settings.data).dialogues) if has_dialogues else DIALOGUES
        plan = InstructPlan(settings, PUBLISHED_CHAT, TYPICAL, {"used": num}, num_devices)
    return {"settings": plain(settings), "assumed": assumed, **plan.describe()}


def _has_base(settings: InstructSettings) -> bool:
    try:
        find(settings.model.base, Path(settings.model.weights))
    except UnknownNameError:
        return False
    return True


def _plan_beside_base(settings: InstructSettings, num_devices: int, *, has_dialogues: bool) -> "InstructPlan":
    base = read_base(settings)
    encoder = load_temporal_model(base, settings)
    llama = read_llama_config(base.at(base.file.llm))
    projector = open_checkpoint(base.at(base.file.projector)).shapes("projector")
    is_deep = any(name.startswith("0.") for name in projector)
    vision = encoder.tower.config
    sizes = ChatModelConfigs(vision, encoder.config, llama, base.file.pooling, encoder.skip, is_deep)
    if not has_dialogues:
        return InstructPlan(settings, sizes, TYPICAL, {"used": DIALOGUES}, num_devices)
    corpus = read_corpus(settings, base, encoder, llama.max_context)
    missing = missing_files(corpus.clips)
    return InstructPlan(settings, sizes, corpus.lengths, corpus.counts, num_devices, missing)


@dataclass(frozen=True, slots=True)
class PretrainPlan:
    """The figures of `--dry-run`; `rate` is in clips a second and device, None if unknown.

    Raises:
        InvalidValueError: no device, or a rate of 0.
    """

    settings: PretrainSettings
    towers: TowerConfigs
    num_clips: int
    missing: MissingFiles | None = None
    num_devices: int = 1
    rate: float | None = None

    def __post_init__(self) -> None:
        require(self.num_devices >= 1, "devices", self.num_devices, "1 or more")
        require(self.rate is None or self.rate > 0, "rate", self.rate, "above 0")

    @property
    def steps_per_epoch(self) -> int:
        return self.num_clips // self.settings.optimiser.batch

    def describe(self) -> dict[str, Any]:
        """Everything, for people and machines."""
        step = meta_pretrain_step(self.settings, self.towers)
        flops = flops_per_clip(self.settings, self.towers)
        optimiser = self.settings.optimiser
        return {
            "steps": optimiser.epochs * self.steps_per_epoch,
            "clips": {
                "all": self.num_clips,
                "per step": optimiser.batch,
                "per device": optimiser.batch // optimiser.accumulate // self.num_devices,
                **_missing(self.missing, self.settings.data.max_broken),
            },
            "learning parameters": described(
                parameter_groups(step.learning(), optimiser.rate, optimiser.rates)
            ),
            "frozen parameters": sum(p.numel() for p in step.parameters() if not p.requires_grad)
            + self._num_captioner(),
            "GFLOP per clip": flops / 1e9,
            "TFLOP per step": flops * optimiser.batch / 1e12,
            f"memory per device, GB (estimate, {self._recomputed} recomputed)": self._memory(step) / 1e9,
            "hours": self._hours(flops),
        }

    @property
    def _recomputed(self) -> str:
        return "layers" if self.settings.run.recompute else "nothing"

    def _memory(self, step: "nn.Module") -> float:
        """Bytes of weights, gradients, moments and kept activations, without temporary buffers."""
        optimiser, run = self.settings.optimiser, self.settings.run
        shared = self.num_devices if run.parallel == "fsdp" else 1
        sizes = {True: 0, False: 0}
        for parameter in step.parameters():
            sizes[parameter.requires_grad] += parameter.numel()
        wide = 4 if run.precision == "float32" else 2
        weights = (ADAM_BYTES * sizes[True] + 4 * sizes[False] + wide * self._num_captioner()) / shared
        clips = optimiser.batch / optimiser.accumulate / self.num_devices
        kept = kept_bytes_per_clip(self.settings, self.towers) * wide / 4
        return weights + clips * kept

    def _num_captioner(self) -> int:
        captioner = MetaCaptioner.of(self.settings, self.towers.vision)
        return 0 if captioner is None else sum(p.numel() for p in captioner.model.parameters())

    def _hours(self, flops: float) -> Mapping[str, float]:
        total = self.settings.optimiser.epochs * self.num_clips / self.num_devices / 3600
        if self.rate is not None:
            return {f"at {self.rate:g} clips/s per device": total / self.rate}
        single = self.settings.run.precision == "float32"
        peaks = {gpu: 1e12 * PEAKS[gpu][1 if single else 0] for gpu in _SHOWN_GPUS}
        return {
            f"on {self.num_devices} x {gpu} at {_EXPECTED_MFU:.0%} MFU": total
            * flops
            / (_EXPECTED_MFU * peak)
            for gpu, peak in peaks.items()
        }


@dataclass(frozen=True, slots=True)
class InstructPlan:
    """The figures of `--dry-run`; `counts` are those of the dialogues.

    Raises:
        InvalidValueError: no device.
    """

    settings: InstructSettings
    sizes: ChatModelConfigs
    lengths: Lengths
    counts: Mapping[str, int]
    num_devices: int = 1
    missing: MissingFiles | None = None

    def __post_init__(self) -> None:
        require(self.num_devices >= 1, "devices", self.num_devices, "1 or more")

    def describe(self) -> dict[str, Any]:
        """Everything, for people and machines."""
        given = self.settings.optimiser
        step, learning = meta_instruct_step(self.settings, self.sizes)
        groups = parameter_groups(learning, given.rate, given.rates)
        flops = flops_per_dialogue(self.settings, self.sizes, self.lengths)
        return {
            "steps": given.epochs * (self.counts["used"] // given.batch),
            "dialogues": {
                **self.counts,
                "per step": given.batch,
                "per device": given.batch / given.accumulate / self.num_devices,
                **_missing(self.missing, self.settings.data.max_broken),
            },
            "tokens per dialogue": self.lengths.tokens,
            "answer tokens per dialogue": self.lengths.answers,
            "learning parameters": described(groups),
            "frozen parameters": sum(p.numel() for p in step.parameters() if not p.requires_grad),
            "TFLOP per dialogue": flops / 1e12,
            "memory of weights and optimiser per device, GB": self._memory(step) / 1e9,
        }

    def _memory(self, step: "InstructStep") -> float:
        """Bytes of weights, gradients and moments, without activations."""
        run = self.settings.run
        half = 4 if run.precision == "float32" else 2
        learning = sum(p.numel() for p in step.parameters() if p.requires_grad)
        tower = sum(p.numel() for p in step.encoder.parameters() if not p.requires_grad)
        language = sum(p.numel() for p in step.lm.parameters() if not p.requires_grad)
        whole = ADAM_BYTES * learning + 4 * tower + half * language
        return whole / (self.num_devices if run.parallel == "fsdp" else 1)


def _missing(missing: MissingFiles | None, max_broken: float) -> dict[str, Any]:
    """How many clips, or videos of dialogues, have no file, and what a run would make of it."""
    if missing is None or not missing.num:
        return {} if missing is None else {"missing": 0}
    ends = missing.num > max_broken * missing.of
    return {
        "missing": missing.num,
        "first missing": list(missing.first),
        **({"warning": f"data.max_broken allows {max_broken:.1%}: the run would end early"} if ends else {}),
    }
