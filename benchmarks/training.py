"""What masking saves, and what a pre-training step costs.

python -m benchmarks.training: at full size (CLIP ViT-L/14, a branch of 4 layers, 8 frames, 70 % of the
patches hidden) operations are counted, beside the count by hand; on this machine's CPU a branch of a quarter
of the width is timed forwards and backwards, masked and not, in one run.

python -m benchmarks.training --device cuda: whole steps at full size on a GPU (benchmarks/throughput.py);
with --tiny, on any device, it only tries whether that runs.
"""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import get_args

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import record
from benchmarks.throughput import FULL, TINY, measure, ways_of
from bt_model.config import CLIP_L14, BTAdapterConfig, ClipTextConfig, ClipVisionConfig
from bt_model.text.clip_text import ClipTextTower
from bt_model.training.data.sampling import draw_masks
from bt_model.training.objectives.contrastive import AlignmentHead, LossWeights
from bt_model.training.pretrain.settings import MaskSettings
from bt_model.training.pretrain.step import CaptionBatch, PretrainBatch, PretrainStep
from bt_model.training.settings import Precision
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import VideoEncoder

T, K, RATE, TEXT = 8, 4, 0.7, 32
SMALL = replace(CLIP_L14, width=256, num_heads=4, mlp_width=1024)
TEXT_L14 = ClipTextConfig(49408, 77, 768, 12, 12, 3072, 768)
BACKWARD_PASSES = 2  # a matrix product costs two more on the way back


@dataclass(frozen=True)
class Count:
    """GMAC of one clip: counted, and by hand."""

    counted: float
    by_hand: float

    @property
    def error(self) -> float:
        return self.counted / self.by_hand - 1


def main() -> None:
    """Count, time, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", help="cuda, cpu: time whole steps there, and nothing else")
    parser.add_argument("--tiny", action="store_true", help="with --device: a model of toy size")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64, 96, 128])
    parser.add_argument("--precision", choices=get_args(Precision), default="bfloat16")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--compiled", choices=("no", "yes", "both"), default="both")
    arguments = parser.parse_args()
    if arguments.device:
        compiled = {"no": [False], "yes": [True], "both": [False, True]}[arguments.compiled]
        ways = ways_of(arguments.batches, arguments.precision, compiled=compiled)
        sizes = TINY if arguments.tiny else FULL
        steps = measure(sizes, torch.device(arguments.device), ways, arguments.steps)
        print(f"best: {steps['best']}")
        if not arguments.tiny:
            print(record("pretraining-steps", steps))
        return
    whole, masked = (branch_count(CLIP_L14, rate) for rate in (0.0, RATE))
    step = step_count()
    seconds = branch_seconds(arguments.rounds)
    figures = {
        "branch_forward_gmac": {"unmasked": asdict(whole), "masked": asdict(masked)},
        "branch_operations_saved": 1 - masked.counted / whole.counted,
        "step_gmac": {**asdict(step), "error": step.error},
        "cpu_seconds": {name: median(times) for name, times in seconds.items()},
        "masked_to_unmasked": median(seconds["masked"]) / median(seconds["unmasked"]),
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(record("training", figures))


def by_hand(vision: ClipVisionConfig, tokens: int, groups: int, length: int) -> float:
    """GMAC of attention over `groups` sequences of `length` tokens: four projections, scores and mixing."""
    return (4 * tokens * vision.width**2 + 2 * groups * length**2 * vision.width) / 1e9


def branch_by_hand(vision: ClipVisionConfig, visible: int) -> float:
    """GMAC of one clip through K layers: time over every patch, space over every frame with the CLS."""
    patches, width = visible * T, vision.width
    time_part = by_hand(vision, patches, visible, T) + patches * width**2 / 1e9
    space = by_hand(vision, patches + T, T, visible + 1)
    mlp = 2 * (patches + 1) * width * vision.mlp_width / 1e9
    return K * (time_part + space + mlp)


def trunk_by_hand(vision: ClipVisionConfig) -> float:
    tokens = T * (1 + vision.num_patches)
    layer = by_hand(vision, tokens, T, 1 + vision.num_patches)
    mlp = 2 * tokens * vision.width * vision.mlp_width / 1e9
    embed = T * vision.num_patches * 3 * vision.patch_size**2 * vision.width / 1e9
    return vision.num_layers * (layer + mlp) + embed


def text_by_hand(text: ClipTextConfig) -> float:
    layer = 4 * TEXT * text.width**2 + 2 * TEXT**2 * text.width + 2 * TEXT * text.width * text.mlp_width
    return text.num_layers * layer / 1e9


def num_visible(vision: ClipVisionConfig, rate: float) -> int:
    return vision.num_patches - int(rate * vision.num_patches)


def counted(work: "FlopCounterMode") -> float:
    return work.get_total_flops() / 2e9


def branch_count(vision: ClipVisionConfig, rate: float) -> Count:
    """One clip, forwards, on the meta device."""
    with torch.device("meta"):
        adapter = BTAdapter(vision, BTAdapterConfig(K, 64))
        states = [torch.empty(1, T, 1 + vision.num_patches, vision.width) for _ in range(K)]
        position = torch.empty(1 + vision.num_patches, vision.width)
        visible = torch.empty(1, num_visible(vision, rate), dtype=torch.long)
    with FlopCounterMode(display=False) as work, sdpa_kernel(SDPBackend.MATH):
        adapter(states, position, visible=visible)
    return Count(counted(work), branch_by_hand(vision, num_visible(vision, rate)))


def step_count() -> Count:
    """One clip and its caption: frozen towers forwards, branch and head forwards and backwards."""
    vision = CLIP_L14
    tower, text = ClipVisionTower(vision), ClipTextTower(TEXT_L14)
    adapter, head = BTAdapter(vision, BTAdapterConfig(K, 64)), AlignmentHead(vision.width, 768)
    pixels = torch.randint(256, (1, T, 224, 224, 3), dtype=torch.uint8)
    captions = CaptionBatch(torch.arange(TEXT)[None], torch.zeros(1, dtype=torch.long))
    masks = draw_masks(MaskSettings(rate=RATE), 0, range(1), T, vision.num_patches)
    tower.requires_grad_(requires_grad=False)
    step = PretrainStep(VideoEncoder(tower, adapter), text, head, LossWeights())
    with FlopCounterMode(display=False) as work, sdpa_kernel(SDPBackend.MATH):
        losses = step(PretrainBatch(pixels, captions, masks))
        torch.stack(list(losses.values())).sum().backward()
    branch = branch_by_hand(vision, num_visible(vision, RATE))
    patches = num_visible(vision, RATE) * T
    # the head learns; the projection of patches is frozen, but the gradient passes through it
    losses = patches * vision.width * 768 / 1e9 * ((1 + BACKWARD_PASSES) + 1 + (1 + 1))
    hand = trunk_by_hand(vision) + text_by_hand(TEXT_L14) + (1 + BACKWARD_PASSES) * branch + losses
    return Count(counted(work), hand)


def branch_seconds(rounds: int) -> dict[str, list[float]]:
    """CPU seconds of a branch forwards and backwards, masked and not, by turns."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    adapter = BTAdapter(SMALL, BTAdapterConfig(K, 64))
    states = [torch.randn(2, T, 1 + SMALL.num_patches, SMALL.width) for _ in range(K)]
    position = torch.randn(1 + SMALL.num_patches, SMALL.width)
    masks = {
        name: draw_masks(MaskSettings(rate=rate), 0, range(2), T, SMALL.num_patches).visible
        for name, rate in (("unmasked", 0.0), ("masked", RATE))
    }
    seconds: dict[str, list[float]] = {name: [] for name in masks}
    for _ in range(1 + rounds):  # the first warms up
        for name, visible in masks.items():
            seconds[name].append(once(adapter, states, position, visible))
    return {name: times[1:] for name, times in seconds.items()}


def once(adapter: BTAdapter, states: list[Tensor], position: Tensor, visible: Tensor | None) -> float:
    begin = time.process_time()
    state = adapter(states, position, visible=visible)[-1]
    (state.patches.mean() + state.cls.mean()).backward()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
