"""`btchat train pretrain`: from settings to a trained, exported temporal model, in one resumable run."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bt_model.assembly.towers import TowerConfigs
from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.decoding.pool import DecodePool
from bt_model.decoding.wire import Request
from bt_model.errors import InvalidValueError, require
from bt_model.text.clip_tokenizer import ClipTokenizer
from bt_model.training.data.clip_list import ClipList, read_clips
from bt_model.training.data.loader import ClipLoader, decode_pool
from bt_model.training.data.sampling import SampleOrder, clip_draws, draw_masks, mask_at
from bt_model.training.export import require_suffix, write_published
from bt_model.training.pretrain.captioner import caption_tokenizer, load_captioner
from bt_model.training.pretrain.cost import flops_per_clip
from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.pretrain.step import (
    CaptionBatch,
    PretrainBatch,
    PretrainStep,
    fresh_step,
    towers_of,
)
from bt_model.training.settings import SETTINGS, keep_settings, settings_from
from bt_model.training.trainer.checkpoint import last_learnt
from bt_model.training.trainer.log import draw_curves
from bt_model.training.trainer.loop import Trained, TrainingJob, results_from, run
from bt_model.training.trainer.optimiser import parameter_groups, recompute
from bt_model.training.trainer.parallel import UNITS, Rank, World, joined, spread
from bt_model.types import FrameSize, Sampling
from bt_model.video.crop import Crop, Cutout
from bt_model.vision.bt_adapter import BTAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from bt_model.training.pretrain.captioner import CaptionTokenizer
    from bt_model.training.pretrain.settings import MaskSettings, PretrainData


@dataclass(frozen=True, slots=True)
class PretrainRecipe:
    """Makes batches of a list of clips; `side` and `num_patches` are the tower's.

    The run has `num_steps` steps. `answers` are captions in the captioner's tokens, None without one.
    """

    data: "PretrainData"
    mask: "MaskSettings"
    order: SampleOrder
    tokenizer: ClipTokenizer
    side: int
    num_patches: int
    num_steps: int
    answers: "CaptionTokenizer | None" = None

    def clip_reader(self) -> DecodePool:
        """Children that decode."""
        return decode_pool(self.data)

    def request(self, clips: ClipList, sample: int, clip: int) -> Request:
        """What a decode child is asked for: frames and a box drawn at random, or the central ones."""
        data, source = self.data, clips.source(clip)
        rng = clip_draws(self.order.seed, sample)
        frame_seed, box_seed = (int(x) for x in rng.integers(2**31, size=2))
        if data.crop == "random":
            sampling = Sampling(num_frames=data.frames, strategy="random", seed=frame_seed)
            crop = Crop(data.min_area, data.max_area, data.min_aspect, data.max_aspect)
            cutout = Cutout(self.side, box_seed, crop)
        else:
            sampling, cutout = Sampling(num_frames=data.frames, strategy="retrieval"), Cutout(self.side)
        size = FrameSize(data.short_side, "whole")
        return Request("frames", sampling, (size,), start=source.start, length=source.length, cutout=cutout)

    def caption(self, clips: ClipList, sample: int, clip: int) -> str:
        """One of a clip's captions."""
        captions = clips.captions_of(clip)
        rng = clip_draws(self.order.seed, sample)
        return captions[int(rng.integers(2**31, size=3)[2]) % len(captions)]

    def batch(
        self,
        clips: ClipList,
        samples: range,
        chosen: list[int],
        pixels: "list[NDArray[np.uint8]]",
        num_skipped: int,
    ) -> PretrainBatch:
        """Decoded clips with their captions and masks."""
        captions = [self.caption(clips, sample, clip) for sample, clip in zip(samples, chosen, strict=True)]
        ids = self.tokenizer(captions, self.data.tokens, upstream_compat=self.data.upstream_cut)
        mask = mask_at(self.mask, self.order.step(samples.start), self.num_steps)
        masks = draw_masks(mask, self.order.seed, samples, self.data.frames, self.num_patches)
        answers = None if self.answers is None else self.answers.batch(captions)
        frames = torch.from_numpy(np.stack(pixels))
        return PretrainBatch(frames, CaptionBatch.of(captions, ids, answers), masks, num_skipped)


ADAPTER = "bt_adapter.safetensors"
Loader = ClipLoader[PretrainBatch]


def pretrain(settings: PretrainSettings, work: Path, rank: Rank) -> Trained:
    """Train to the end, or resume the run in `work`; all ranks call it with the same arguments.

    Rank 0 writes checkpoints, logs, curves, and at the end `bt_adapter.safetensors`.

    Raises:
        InvalidValueError: settings that do not fit each other, the data or the run that is resumed.
        CheckpointError: weights that are missing or do not fit.
        TrainingError: the run cannot go on.
    """
    with joined(rank, settings.run.device) as world:
        trained = _train(settings, work, world)
        if world.is_first:
            draw_curves(work / f"{NAME}.csv", work / f"{NAME}.png")
            export(work, work / ADAPTER)
        world.wait()
    return trained


def _train(settings: PretrainSettings, work: Path, world: World) -> Trained:
    """A separate function, so that distributed modules are freed before the process group is destroyed."""
    towers = towers_of(settings.model)
    loader = _loader(settings, work, world, towers)
    try:
        job = _job(settings, work, world, towers, loader)
        if world.is_first:
            keep_settings(work, settings)  # written only once nothing above has raised
        return run(job)
    finally:
        loader.close()


def _loader(settings: PretrainSettings, work: Path, world: World, towers: TowerConfigs) -> Loader:
    """This rank's loader; rank 0 reads the list first, since it may have to index tar shards."""
    has_clips = settings.data.format == "webdataset" or Path(settings.data.root).is_dir()
    require(has_clips, "data.root", settings.data.root, "a folder with the clips")
    clips = read_clips(settings.data, work) if world.is_first else None
    world.wait()
    clips = read_clips(settings.data, work) if clips is None else clips
    return loader_of(clips, settings, work, world, towers)


def loader_of(
    clips: ClipList, settings: PretrainSettings, work: Path, world: World, towers: TowerConfigs
) -> Loader:
    """A rank's loader over a list of clips."""
    model, vision, optimiser = settings.model, towers.vision, settings.optimiser
    order = SampleOrder(
        len(clips), optimiser.batch, optimiser.accumulate, settings.run.seed, world.rank, world.size
    )
    num_steps = optimiser.epochs * order.steps_per_epoch
    tokenizer = ClipTokenizer.from_file(Path(model.tokenizer or model.text or model.clip))
    answers = caption_tokenizer(settings, vision) if model.captioner else None
    recipe = PretrainRecipe(
        settings.data, settings.mask, order, tokenizer, vision.image_size, vision.num_patches, num_steps,
        answers,
    )  # fmt: skip
    return ClipLoader(clips, recipe, num_steps, work)


def _job(
    settings: PretrainSettings, work: Path, world: World, towers: TowerConfigs, loader: Loader
) -> TrainingJob:
    given = settings.run
    torch.manual_seed(given.seed)  # the same fresh parts on every rank
    step = fresh_step(settings, towers)
    if settings.model.captioner:
        step.captioner = load_captioner(settings, step.encoder.tower)
    step.train()
    if given.recompute:
        recompute(step.encoder, UNITS)
        if step.captioner is not None:
            recompute(step.captioner, UNITS)
    if given.compile:
        compile_step(step)
    spread_out = spread(step, world, given.parallel, units=UNITS)
    optimiser = settings.optimiser
    return TrainingJob(
        NAME,
        step.learning(),
        parameter_groups(step.learning(), optimiser.rate, optimiser.rates),
        settings.schedule(loader.steps_per_epoch),
        results_from(loader, spread_out.call, world, given.seed),
        work,
        world=world,
        synced=spread_out.synced,
        save_every=given.save_every,
        keep=given.keep,
        stop_after=given.steps or None,
        flops_per_clip=partial(flops_per_clip, settings, towers),
        with_events=True,
        histograms=gates(step),
    )


def compile_step(step: PretrainStep) -> None:
    """Compile all but the captioner, whose rows differ in length from batch to batch."""
    for module in (step.encoder.tower, step.text, *step.encoder.trainable().values()):
        module.compile()


def gates(step: PretrainStep) -> "dict[str, Callable[[], Tensor]]":
    """The trunk's shares, channel by channel."""
    adapter = step.encoder.trainable().get("adapter")
    if not isinstance(adapter, BTAdapter):
        return {}
    shares = {"gate/output": lambda: adapter.output_gate, "gate/middle": lambda: adapter.middle_gate}
    return {name: read for name, read in shares.items() if read() is not None}  # pyright: ignore[reportReturnType] - those without a gate are left out


NAME = "pretrain"


def read_settings(work: Path) -> PretrainSettings:
    """The settings of the run in a folder.

    Raises:
        InvalidValueError: no run there.
    """
    path = work / SETTINGS
    if not path.is_file():
        raise InvalidValueError(f"work is {work}; allowed: the folder of a pre-training run", param="work")
    return settings_from(PretrainSettings, json.loads(path.read_text(encoding="utf-8")))


def export(work: Path, out: Path, *, with_clip: bool = False) -> None:
    """The last checkpoint of a run as a file with published names, with CLIP's towers or without.

    Raises:
        InvalidValueError: an ending that is not written, or no run in `work`.
        CheckpointError: the run has no checkpoint yet, or files that cannot be read.
    """
    require_suffix(out)
    settings = read_settings(work)
    learnt = last_learnt(work, NAME)
    step = fresh_step(settings, towers_of(settings.model))
    learnt.fill(step.learning())
    write_published(out, step, {**_facts(settings, step), "steps": learnt.steps}, with_clip=with_clip)


def _facts(settings: PretrainSettings, step: PretrainStep) -> dict[str, Any]:
    """Metadata for what the tensors do not record."""
    weights = settings.loss.weights
    return {
        "clip": Path(settings.model.clip).name,
        "clip_fingerprint": fingerprint(step.encoder.tower.state_dict()),
        "mask": settings.mask.layout,
        "mask_rate": settings.mask.rate,
        "unmasked": settings.mask.unmasked,
        "layer_rule": "last K outputs",
        "losses": asdict(weights),
        **({"captioner": Path(settings.model.captioner).name} if settings.model.captioner else {}),
    }
