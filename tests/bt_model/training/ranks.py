"""Several processes on this machine that make up one world, and what each of them does in these tests.

The processes are forked from a server that has imported everything once, and that `stop_server` ends.
B clips, T frames, P patches.
"""

import tempfile
from collections.abc import Callable
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from bt_model.config import TemporalConfig
from bt_model.text.clip_text import ClipTextTower
from bt_model.training.data.sampling import Masks
from bt_model.training.instruct.run import instruct
from bt_model.training.instruct.settings import InstructSettings
from bt_model.training.objectives.contrastive import AlignmentHead, Gather, LossWeights
from bt_model.training.pretrain.run import pretrain
from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.pretrain.step import CaptionBatch, PretrainBatch, PretrainStep
from bt_model.training.settings import Parallel, settings_from
from bt_model.training.trainer.loop import StepResult, TrainingJob, run
from bt_model.training.trainer.optimiser import Schedule
from bt_model.training.trainer.parallel import Rank, World, joined, spread
from bt_model.vision.build import build_encoder
from tests import tiny

B, T, M, VOCABULARY = 8, 4, 3, 280
CLIP_NORM = 0.5
EQUAL = LossWeights()


def run_ranks(work: Callable[..., None], size: int, *arguments: Any) -> None:
    """Call `work(rank, *arguments)` in `size` processes, and wait."""
    get_context("forkserver").set_forkserver_preload([__name__, "torch._dynamo"])  # DDP imports the latter
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        start_processes(_enter, (work, size, meeting, arguments), nprocs=size, start_method="forkserver")


def stop_server() -> None:
    """End the process that ranks are forked from; the next `run_ranks` starts another."""
    forkserver._forkserver._stop()  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage] - made for tests


def _enter(rank: int, work: Callable[..., None], size: int, meeting: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    work(Rank(rank, size, rank, meeting), *arguments)


def fresh_step(mode: Gather = "exact", weights: LossWeights = EQUAL) -> PretrainStep:
    """A tiny step whose every part matters; what learns is as if trained a while."""
    sizes = tiny.plan(300, VOCABULARY)
    tower = tiny.tower()
    encoder = build_encoder(TemporalConfig(branch=tiny.ADAPTER), tower)
    head = AlignmentHead(tiny.D, tiny.VISION.projection_dim)
    for number, module in enumerate((*encoder.trainable().values(), head)):
        tiny.wake(module, seed=3 + number).requires_grad_(requires_grad=True)
    return PretrainStep(encoder, tiny.wake(ClipTextTower(sizes.text), seed=5), head, weights, mode=mode)


def whole_batch() -> PretrainBatch:
    """The same B clips in every process."""
    generator = torch.Generator().manual_seed(11)
    ids = torch.randint(0, VOCABULARY, (B, 6), generator=generator)
    visible = torch.rand(B, tiny.P, generator=generator).argsort(dim=1)[:, :M].sort(dim=1).values
    pairs = torch.arange(T)[:, None] * tiny.P + visible[:, None]
    return PretrainBatch(tiny.clips(B, T), CaptionBatch(ids, torch.arange(B)), Masks(visible, pairs))


def own_rows(batch: PretrainBatch, rank: Rank) -> PretrainBatch:
    rows = slice(rank.number * B // rank.size, (rank.number + 1) * B // rank.size)
    captions, masks = batch.captions, batch.masks
    assert masks.visible is not None
    return PretrainBatch(
        batch.clips[rows],
        CaptionBatch(captions.ids[rows], captions.group[rows]),
        Masks(masks.visible[rows], masks.pairs[rows]),
    )


def gradients(step: PretrainStep) -> dict[str, Tensor]:
    """By name, and with them the norm of all."""
    found = {name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}
    learning = [p for p in step.parameters() if p.requires_grad]
    return {**found, "norm": nn.utils.clip_grad_norm_(learning, CLIP_NORM)}


def write_gradients(rank: Rank, out: Path, mode: Gather) -> None:
    """One backward pass of this rank's rows under DDP; the first rank writes the gradients."""
    with joined(rank, "cpu") as world:
        found = _shared_gradients(rank, world, mode)
        if world.is_first:
            torch.save(found, out)


def _shared_gradients(rank: Rank, world: World, mode: Gather) -> dict[str, Tensor]:
    """What is spread is gone when this returns: a process group that DDP outlives may never end."""
    step = fresh_step(mode)
    wrapped = spread(step, world)
    losses: dict[str, Tensor] = wrapped.call(own_rows(whole_batch(), rank))
    torch.stack(list(losses.values())).sum().backward()
    return gradients(step)


def write_run(rank: Rank, work: Path, values: dict[str, Any], parallel: Parallel) -> None:
    """A whole pre-training run."""
    pretrain(settings_from(PretrainSettings, values, {"run": {"parallel": parallel}}), work, rank)


def write_tuning(rank: Rank, work: Path, values: dict[str, Any], parallel: Parallel) -> None:
    """A whole run of instruction tuning."""
    instruct(settings_from(InstructSettings, values, {"run": {"parallel": parallel}}), work, rank)


def write_overflows(rank: Rank, work: Path) -> None:
    """A few steps in float16 under FSDP; in the third, gradients of the first rank's rows alone overflow."""
    with joined(rank, "cpu") as world:
        torch.manual_seed(0)
        layer = nn.Linear(6, 2)  # one row of the weight a rank
        sharded = spread(layer, world, "fsdp")

        def result_at(step: int, _part: int) -> StepResult:
            y: Tensor = sharded.call(torch.ones(1, 6))
            large = 1e36 if step == 2 else 0.0
            return StepResult(0.01 * y.float().square().sum() + large * y[0, 0].float())

        groups = [{"params": list(layer.parameters())}]
        run(
            TrainingJob(
                "fit",
                {"layer": layer},
                groups,
                Schedule(4, 1e-2, precision="float16"),
                result_at,
                work,
                world,
            )
        )
