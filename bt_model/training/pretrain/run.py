"""`btchat train pretrain`: trains and exports a temporal model in one resumable run."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bt_model.errors import require
from bt_model.generation.llama import DecoderLayer
from bt_model.training.data.clip_list import ClipList, read_clips
from bt_model.training.data.loader import ClipLoader
from bt_model.training.data.sampling import SampleOrder
from bt_model.training.pretrain.captioner import captioner_file, load_captioner, tokenizer_for
from bt_model.training.pretrain.config import PretrainSettings
from bt_model.training.pretrain.files import NAME, export
from bt_model.training.pretrain.plan import flops_per_clip, schedule_of
from bt_model.training.pretrain.recipe import PretrainRecipe
from bt_model.training.pretrain.step import PretrainBatch, PretrainStep
from bt_model.training.pretrain.towers import Towers, fresh_step, tokenizer_of, towers_of
from bt_model.training.settings import keep_settings
from bt_model.training.trainer.log import draw_curves
from bt_model.training.trainer.loop import Trained, TrainingJob, results_from, run
from bt_model.training.trainer.optimiser import parameter_groups, recompute
from bt_model.training.trainer.parallel import Rank, World, joined, spread
from bt_model.vision.attention import Mlp, MultiHeadAttention
from bt_model.vision.bt_adapter import BTAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# modules with tensors as arguments and results: the units of FSDP and of recomputation
UNITS = (MultiHeadAttention, Mlp, DecoderLayer)
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


def _loader(settings: PretrainSettings, work: Path, world: World, towers: Towers) -> Loader:
    """This rank's loader; rank 0 reads the list first, since it may have to index tar shards."""
    has_clips = settings.data.format == "webdataset" or Path(settings.data.root).is_dir()
    require(has_clips, "data.root", settings.data.root, "a folder with the clips")
    clips = read_clips(settings.data, work) if world.is_first else None
    world.wait()
    clips = read_clips(settings.data, work) if clips is None else clips
    return loader_of(clips, settings, work, world, towers)


def loader_of(
    clips: ClipList, settings: PretrainSettings, work: Path, world: World, towers: Towers
) -> Loader:
    """A rank's loader over a list of clips."""
    order = _order(settings, clips, world)
    vision, base = towers.vision, captioner_file(settings)
    num_steps = settings.optimiser.epochs * order.steps_per_epoch
    recipe = PretrainRecipe(
        settings.data, settings.mask, order, tokenizer_of(settings.model), vision.image_size,
        vision.num_patches, num_steps,
        None if base is None else tokenizer_for(base, vision, settings.loss.request),
    )  # fmt: skip
    return ClipLoader(clips, recipe, num_steps, work)


def _order(settings: PretrainSettings, clips: ClipList, world: World) -> SampleOrder:
    given = settings.optimiser
    return SampleOrder(len(clips), given.batch, given.accumulate, settings.run.seed, world.rank, world.size)


def _job(settings: PretrainSettings, work: Path, world: World, towers: Towers, loader: Loader) -> TrainingJob:
    given = settings.run
    torch.manual_seed(given.seed)  # the same fresh parts on every rank
    step = fresh_step(settings, towers)
    if base := captioner_file(settings):
        step.captioner = load_captioner(base, step.encoder.tower, settings)
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
        schedule_of(settings, loader.steps_per_epoch),
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
