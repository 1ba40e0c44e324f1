"""The vision tower with its branch on a CPU, beside transformers' tower alone: CPU seconds, one thread.

python -m benchmarks.vision [--frames 8]. CLIP-L/14 with BT-Adapter's four layers, random weights, float32.
The floor is what the matrix products would take at the pace of one large product. Rounds take turns; the
least of each is taken, and the ratios are those of one run.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from benchmarks.record import record
from bt_model.config import CLIP_L14, BTAdapterConfig, TemporalConfig
from bt_model.training.trainer.cost import count_flops
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import TemporalEncoder, encode_shared
from bt_model.vision.linear import Linear, onednn_pays

_PRODUCT = 2048  # rows, inputs and outputs of the large product


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(args.frames, args.rounds)
    for name, value in figures.items():
        print(f"{name:45}{value:10.3f}" if isinstance(value, float) else f"{name:45}{value:>10}")
    print(record("vision", figures))


def measure(frames: int, rounds: int) -> dict[str, Any]:
    """CPU seconds of one clip of so many frames, by who computes it."""
    pixels = torch.randn(1, frames, 3, CLIP_L14.image_size, CLIP_L14.image_size)
    encoder = _encoder()
    work = {
        "tower and branch": lambda: encode_shared([encoder], pixels),
        "tower alone": lambda: encoder.tower(pixels[0], [CLIP_L14.num_layers - 1]),
        "transformers' tower": _peer(pixels[0]),
    }
    seconds = _least_seconds(work, rounds)
    gflop = {name: count_flops(do) / 1e9 for name, do in work.items()}
    pace = _pace()
    ours, peer = seconds["tower alone"], seconds["transformers' tower"]
    return {
        "frames": frames,
        **{f"{name}, CPU seconds": value for name, value in seconds.items()},
        "tower and branch, GFLOP": gflop["tower and branch"],
        "one large product, GFLOP/s": pace,
        "tower and branch, of its floor": seconds["tower and branch"] * pace / gflop["tower and branch"],
        "transformers' tower, of ours for each layer": (peer / CLIP_L14.num_layers)
        / (ours / (CLIP_L14.num_layers - 1)),
    }


def _encoder() -> TemporalEncoder:
    torch.manual_seed(0)
    config = TemporalConfig(kind="bt_adapter", branch=BTAdapterConfig())
    return build_encoder(config, ClipVisionTower(CLIP_L14).eval()).eval()


def _peer(frames: torch.Tensor) -> Callable[[], object]:
    """The library's tower of the same sizes, with all of its layers."""
    config = CLIPVisionConfig(
        hidden_size=CLIP_L14.width, intermediate_size=CLIP_L14.mlp_width, patch_size=CLIP_L14.patch_size,
        num_hidden_layers=CLIP_L14.num_layers, num_attention_heads=CLIP_L14.num_heads,
        image_size=CLIP_L14.image_size, projection_dim=CLIP_L14.projection_dim,
    )  # fmt: skip
    model = CLIPVisionModel(config).eval()
    return lambda: model(pixel_values=frames)


def _least_seconds(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    least = dict.fromkeys(work, float("inf"))
    with torch.inference_mode():
        for _ in range(rounds):
            for name, do in work.items():
                begin = time.process_time()
                do()
                least[name] = min(least[name], time.process_time() - begin)
    return least


def _pace() -> float:
    """GFLOP/s of one large product, as the towers multiply."""
    layer, rows = Linear(_PRODUCT, _PRODUCT, bias=False), torch.randn(_PRODUCT, _PRODUCT)
    onednn_pays()
    seconds = _least_seconds({"product": lambda: layer(rows)}, 4)["product"]
    return 2 * _PRODUCT**3 / seconds / 1e9


if __name__ == "__main__":
    main()
