"""The plan of a run: steps, parameter groups, FLOPs, memory, hours.

B clips, T frames, P patches, M visible patches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bt_model.errors import require
from bt_model.training.data.sampling import Masks
from bt_model.training.pretrain.captioner import MetaCaptioner
from bt_model.training.pretrain.config import PretrainSettings
from bt_model.training.pretrain.step import CaptionBatch, PretrainBatch, PretrainStep
from bt_model.training.pretrain.towers import Towers, fresh_step
from bt_model.training.settings import plain, settings_from
from bt_model.training.trainer.cost import PEAKS, count_flops, kept_bytes
from bt_model.training.trainer.optimiser import ADAM_BYTES, Schedule, described, parameter_groups

WEBVID_CLIPS = 2_500_000  # pairs of WebVid-2M, assumed where the annotations are not there
_EXPECTED_MFU = 0.4
_SHOWN_GPUS = ("V100", "A100", "H100")


def schedule_of(settings: PretrainSettings, steps_per_epoch: int) -> Schedule:
    """The run's length and schedule, with epochs converted to shares of the run."""
    given = settings.optimiser
    num_steps = given.epochs * steps_per_epoch
    return Schedule(
        num_steps=num_steps, learning_rate=given.rate, weight_decay=given.weight_decay,
        clip_norm=given.clip_norm, precision=settings.run.precision,
        warmup=given.warmup_epochs / given.epochs, warmup_from=given.warmup_from, floor=given.floor,
        period=None if given.cosine_epochs is None else given.cosine_epochs / given.epochs,
        betas=(given.beta1, given.beta2), eps=given.eps, accumulate=given.accumulate,
    )  # fmt: skip


def meta_batch(settings: PretrainSettings, towers: Towers, batch: int = 1) -> PretrainBatch:
    """A batch on the meta device."""
    frames, side, patches = settings.data.frames, towers.vision.image_size, towers.vision.num_patches
    num_visible = patches - int(settings.mask.rate * patches)
    tokens = torch.empty(batch, frames, num_visible, dtype=torch.int64, device="meta")
    tube = settings.mask.layout == "tube"
    visible = None if not settings.mask.rate else tokens[:, 0] if tube else tokens
    pixels = torch.empty(batch, frames, side, side, 3, dtype=torch.uint8, device="meta")
    ids = torch.empty(batch, settings.data.tokens, dtype=torch.int64, device="meta")
    group = torch.empty(batch, dtype=torch.int64, device="meta")
    return PretrainBatch(pixels, CaptionBatch(ids, group), Masks(visible, tokens))


def meta_step(settings: PretrainSettings, towers: Towers) -> PretrainStep:
    """The step without weights, and without its captioner (`MetaCaptioner`)."""
    without = {"model": {"init": "", "captioner": ""}, "loss": {"caption": 0.0}}
    settings = settings_from(PretrainSettings, plain(settings), without)
    with torch.device("meta"):
        return fresh_step(settings, towers, are_loaded=False).train()


def flops_per_clip(settings: PretrainSettings, towers: Towers) -> float:
    """FLOPs of one clip's forward and backward pass, averaged over all steps.

    Recomputation does not count.
    """
    share = settings.mask.unmasked
    masked = 0.0 if share == 1 else _flops(settings, towers)
    whole = 0.0 if share == 0 else _flops(_unmasked(settings), towers)
    captioner = MetaCaptioner.of(settings, towers.vision)
    saying = 0.0 if captioner is None else count_flops(lambda: captioner.loss().backward())
    return (1 - share) * masked + share * whole + saying


def _flops(settings: PretrainSettings, towers: Towers) -> float:
    step, batch = meta_step(settings, towers), meta_batch(settings, towers)
    return count_flops(lambda: torch.stack(list(step(batch).values())).sum().backward())


def _unmasked(settings: PretrainSettings) -> PretrainSettings:
    return settings_from(PretrainSettings, plain(settings), {"mask": {"rate": 0.0}})


def kept_bytes_per_clip(settings: PretrainSettings, towers: Towers) -> int:
    """Bytes of float32 activations kept for the backward pass.

    If the last steps have no mask, those of such a step.
    """
    settings = _unmasked(settings) if settings.mask.unmasked else settings
    step, batch = meta_step(settings, towers), meta_batch(settings, towers)
    captioner = MetaCaptioner.of(settings, towers.vision)
    saying = 0 if captioner is None else kept_bytes(captioner.loss, captioner.model.parameters())
    return kept_bytes(lambda: step(batch), step.parameters()) + saying


@dataclass(frozen=True, slots=True)
class PretrainPlan:
    """The figures of `--dry-run`; `rate` is in clips a second and device, None if unknown.

    Raises:
        InvalidValueError: no device, or a rate of 0.
    """

    settings: PretrainSettings
    towers: Towers
    num_clips: int
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
        step = meta_step(self.settings, self.towers)
        flops = flops_per_clip(self.settings, self.towers)
        optimiser = self.settings.optimiser
        return {
            "steps": optimiser.epochs * self.steps_per_epoch,
            "clips": {
                "all": self.num_clips,
                "per step": optimiser.batch,
                "per device": optimiser.batch // optimiser.accumulate // self.num_devices,
            },
            "learning parameters": described(
                parameter_groups(step.learning(), optimiser.rate, optimiser.rates)
            ),
            "frozen parameters": sum(p.numel() for p in step.parameters() if not p.requires_grad)
            + self._num_captioner(),
            "GFLOP per clip": flops / 1e9,
            "TFLOP per step": flops * optimiser.batch / 1e12,
            "memory per device, GB (estimate, nothing recomputed)": self._memory(step) / 1e9,
            "hours": self._hours(flops),
        }

    def _memory(self, step: PretrainStep) -> float:
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
