"""Whole pre-training steps, timed: clips a second, model FLOP utilisation, memory, hours for WebVid-2M.

A step is what training does: frozen towers, branch and head, three losses, backwards, clipping, AdamW. Clips
are random and lie on the device, so decoding is not in the figures. Needs torch and no package for videos.
"""

import gc
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import nn

from bt_model.config import CLIP_L14, BTAdapterConfig, ClipTextConfig, ClipVisionConfig, TemporalConfig
from bt_model.text.clip_text import ClipTextTower
from bt_model.training.data.sampling import draw_masks
from bt_model.training.objectives.contrastive import AlignmentHead, LossWeights
from bt_model.training.pretrain.settings import MaskSettings
from bt_model.training.pretrain.step import CaptionBatch, PretrainBatch, PretrainStep
from bt_model.training.settings import Precision
from bt_model.training.trainer.cost import count_flops, peak_flops
from bt_model.training.trainer.optimiser import multiplying_in
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower

WEBVID_CLIPS = 2_500_000
PAPER = {"hours": 3.0, "gpus": 8, "clips_per_second_and_gpu": 28.9}  # V100s, one epoch of WebVid-2M
CLIP_NORM, RATE = 5.0, 2e-6
WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is trained, and on what: T frames, n text tokens, a share of hidden patches."""

    vision: ClipVisionConfig
    text: ClipTextConfig
    layers: int = 4
    frames: int = 8
    tokens: int = 32
    mask: float = 0.7


FULL = Sizes(CLIP_L14, ClipTextConfig(49408, 77, 768, 12, 12, 3072, CLIP_L14.projection_dim))
TINY = Sizes(
    replace(CLIP_L14, image_size=32, patch_size=8, width=64, num_layers=4, num_heads=4, mlp_width=128,
            projection_dim=32),
    ClipTextConfig(300, 77, 32, 2, 2, 64, 32), layers=2, frames=4, tokens=8,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Way:
    """How steps are computed."""

    batch: int
    precision: Precision
    is_compiled: bool


def measure(
    sizes: Sizes, device: torch.device, ways: Sequence[Way], num_steps: int, *, shown: bool = True
) -> dict[str, Any]:
    """Every way in turn, and the fastest; a way that the memory does not allow says so."""
    flops = flops_of(sizes)
    rows = list[dict[str, Any]]()
    for way in ways:
        try:
            row = asdict(way) | _timed(sizes, device, way, num_steps, flops)
        except torch.OutOfMemoryError:
            row = asdict(way) | {"out_of_memory": True}
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        rows.append(row)
        if shown:
            print(row, flush=True)
    done = [row for row in rows if "mfu" in row]
    best = max(done, key=lambda row: row["clips_per_second"], default=None)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": name, "gflop_per_clip": flops / 1e9, "ways": rows, "best": best, "paper": PAPER}


def ways_of(batches: Sequence[int], precision: Precision, *, compiled: Sequence[bool]) -> list[Way]:
    return [Way(batch, precision, is_compiled) for is_compiled, batch in product(compiled, batches)]


def fresh(sizes: Sizes) -> PretrainStep:
    """The paper's step with random towers."""
    tower, text = ClipVisionTower(sizes.vision), ClipTextTower(sizes.text)
    branch = BTAdapterConfig(sizes.layers, 64, middle_scale=1.0, output_scale=1.0)
    encoder = build_encoder(TemporalConfig(branch=branch), tower)
    head = AlignmentHead(sizes.vision.width, sizes.vision.projection_dim)
    return PretrainStep(encoder, text, head, LossWeights()).train()


def random_batch(sizes: Sizes, batch: int, device: torch.device) -> PretrainBatch:
    side, patches = sizes.vision.image_size, sizes.vision.num_patches
    masks = draw_masks(MaskSettings(rate=sizes.mask), 0, range(batch), sizes.frames, patches).to(device)
    pixels = torch.randint(256, (batch, sizes.frames, side, side, 3), dtype=torch.uint8, device=device)
    ids = torch.randint(1, sizes.text.vocab_size, (batch, sizes.tokens), device=device)
    return PretrainBatch(pixels, CaptionBatch(ids, torch.arange(batch, device=device)), masks)


def flops_of(sizes: Sizes) -> float:
    """Operations of one clip's step, counted without computing it."""
    with torch.device("meta"):
        step = fresh(sizes)
    batch = random_batch(sizes, 1, torch.device("cpu")).to(torch.device("meta"))
    return count_flops(lambda: torch.stack(list(step(batch).values())).sum().backward())


def _timed(
    sizes: Sizes, device: torch.device, way: Way, num_steps: int, flops: float
) -> dict[str, float | bool]:
    torch.manual_seed(0)
    step = fresh(sizes).to(device)
    learning = [p for p in step.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=RATE, betas=(0.9, 0.98), weight_decay=0.05)
    if way.is_compiled:
        for module in (step.encoder.tower, step.text, *step.encoder.trainable().values()):
            module.compile()
    batch = random_batch(sizes, way.batch, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(WARM_UP):
        _take(step, optimiser, batch, way.precision)
    _synchronise(device)
    begin = time.perf_counter()
    for _ in range(num_steps):
        loss = _take(step, optimiser, batch, way.precision)
    _synchronise(device)
    rate = num_steps * way.batch / (time.perf_counter() - begin)
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0
    return {
        "clips_per_second": rate,
        "mfu": rate * flops / peak_flops(device, way.precision),
        "memory_gb": memory,
        "webvid_hours": WEBVID_CLIPS / rate / 3600,
        "webvid_hours_on_8": WEBVID_CLIPS / rate / 8 / 3600,
        "loss": loss.item(),
    }


def _take(
    step: PretrainStep, optimiser: torch.optim.Optimizer, batch: PretrainBatch, precision: Precision
) -> torch.Tensor:
    optimiser.zero_grad(set_to_none=True)
    with multiplying_in(precision, batch.clips.device.type):
        loss = torch.stack(list(step(batch).values())).sum()
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], CLIP_NORM)
    optimiser.step()
    return loss.detach()


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
