"""`btchat train instruct`: from a chat model and dialogues to a tuned model folder, in one resumable run.

B dialogues.
"""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from bt_model.backends.parts.llm import read_llama_config
from bt_model.generation.llama_layers import DecoderLayer
from bt_model.training.chat_base import load_language
from bt_model.training.data.loader import ClipLoader
from bt_model.training.data.sampling import SampleOrder
from bt_model.training.export import TunedParts, write_model_folder
from bt_model.training.instruct.base import load_temporal_model, read_base
from bt_model.training.instruct.corpus import Corpus, read_corpus
from bt_model.training.instruct.cost import ChatModelConfigs, flops_per_dialogue
from bt_model.training.instruct.learning import additions, unfreeze
from bt_model.training.instruct.recipe import DialogueRecipe, Framing
from bt_model.training.instruct.settings import InstructSettings
from bt_model.training.instruct.step import InstructBatch, InstructStep, weighed
from bt_model.training.settings import keep_settings
from bt_model.training.trainer.checkpoint import last_learnt
from bt_model.training.trainer.log import draw_curves
from bt_model.training.trainer.loop import Trained, TrainingJob, results_from, run
from bt_model.training.trainer.optimiser import parameter_groups, recompute
from bt_model.training.trainer.parallel import UNITS, Rank, World, joined, spread
from bt_model.vision.pool import pooling

NAME = "instruct"
MODEL = "model"  # the folder of the tuned model
Loader = ClipLoader[InstructBatch]


def instruct(settings: InstructSettings, work: Path, rank: Rank) -> Trained:
    """Train to the end, or resume the run in `work`; all ranks call it with the same arguments.

    Rank 0 writes checkpoints, logs, curves, and at the end the tuned model's folder, `work`/model.

    Raises:
        InvalidValueError: settings that do not fit each other, the data or the run that is resumed.
        CheckpointError: weights that are missing or do not fit.
        TrainingError: the run cannot go on.
    """
    with joined(rank, settings.run.device) as world:
        trained = _train(settings, work, world)
        if world.is_first:
            draw_curves(work / f"{NAME}.csv", work / f"{NAME}.png")
            export(work, settings, work / MODEL)
        world.wait()
    return trained


def _train(settings: InstructSettings, work: Path, world: World) -> Trained:
    """A separate function, so that distributed modules are freed before the process group is destroyed."""
    torch.manual_seed(settings.run.seed)  # the same fresh parts on every rank
    base = read_base(settings)
    encoder = load_temporal_model(base, settings)
    corpus = read_corpus(settings, base, encoder, read_llama_config(base.at(base.file.llm)).max_context)
    if world.is_first:
        keep_settings(work, settings)
        corpus.write_counts(work)
    lm, projector = load_language(base, encoder.tower.config, settings.run.precision)
    step = InstructStep(encoder, pooling(base.file.pooling).pool, projector, lm, stored=corpus.stored)
    framing = Framing.of(settings.data, encoder.tower.config.image_size, base.file.fit)
    sizes = ChatModelConfigs(
        encoder.tower.config, encoder.config, lm.cfg, base.file.pooling, encoder.skip,
        isinstance(projector, nn.Sequential),
    )  # fmt: skip
    loader = _loader(settings, work, world, corpus, framing)
    try:
        return run(_job(settings, work, world, step, corpus, sizes, loader))
    finally:
        loader.close()


def _loader(settings: InstructSettings, work: Path, world: World, corpus: Corpus, framing: Framing) -> Loader:
    given = settings.optimiser
    order = SampleOrder(
        len(corpus.clips), given.batch, given.accumulate, settings.run.seed, world.rank, world.size
    )
    recipe = DialogueRecipe(settings.data, order, framing, corpus.speller, corpus.num_video)
    return ClipLoader(corpus.clips, recipe, given.epochs * order.steps_per_epoch, work)


def _job(
    settings: InstructSettings,
    work: Path,
    world: World,
    step: InstructStep,
    corpus: Corpus,
    sizes: ChatModelConfigs,
    loader: Loader,
) -> TrainingJob:
    given, optimiser = settings.run, settings.optimiser
    learning = unfreeze(step, settings.learn, corpus.speller.ids)
    if given.recompute:
        recompute(step.lm, (DecoderLayer,))
    spread_out = spread(step, world, given.parallel, units=UNITS)
    return TrainingJob(
        NAME,
        learning,
        parameter_groups(learning, optimiser.rate, optimiser.rates),
        settings.schedule(loader.steps_per_epoch),
        results_from(loader, weighed(spread_out.call, optimiser.weigh, world), world, given.seed),
        work,
        world=world,
        synced=spread_out.synced,
        save_every=given.save_every,
        keep=given.keep,
        stop_after=given.steps or None,
        flops_per_clip=partial(flops_per_dialogue, settings, sizes, corpus.lengths),
        with_events=True,
    )


def export(work: Path, settings: InstructSettings, out: Path) -> Path:
    """The last checkpoint of a run as a folder with a model file, which is returned.

    Raises:
        CheckpointError: the run has no checkpoint yet, or files that cannot be read.
    """
    learnt, base = last_learnt(work, NAME), read_base(settings)
    found = learnt.modules
    encoder = None
    if {"adapter", "vision"} & set(found):
        encoder = load_temporal_model(base, settings)
        learnt.fill(encoder.trainable())
    markers = found["tokens"]["rows"] if "tokens" in found else None
    lora = additions(found["lora"], settings.learn) if "lora" in found else None
    return write_model_folder(TunedParts(base, found.get("projector"), markers, encoder, lora), settings, out)
