"""Every published layout at full size: written, converted, and every name and shape accounted for.

python -m benchmarks.checkpoints [--llm-layers 2] [LAYOUT ...]: random checkpoints in the published names,
written as the published files are, converted in a process of its own, whose peak memory is taken, then
matched name by name and shape by shape with our full-size modules. One layout is on disk at a time.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

from benchmarks.published import (
    LAVIS_WIDTH,
    WIDTH,
    Shapes,
    clip_branch,
    clip_l,
    eva,
    hf_instructblip,
    hf_llava,
    lavis,
    linear,
    llama,
    on_meta,
    pretrain,
    rotations,
)
from benchmarks.record import record
from bt_model.backends.parts.bridge import qformer_config
from bt_model.backends.parts.qformer import QFormer
from bt_model.checkpoints.load import CHAT_MAY_MISS, load_adapter, load_part, load_vision, read_adapter
from bt_model.checkpoints.weights import Checkpoint, Weights, open_checkpoint, open_weights
from bt_model.config import CLIP_L14, EVA_G14, ClipTextConfig, ClipVisionConfig
from bt_model.config import LlamaConfig as OurLlamaConfig
from bt_model.generation.llama import Llama
from bt_model.text.clip_text import ClipTextTower
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower

Account = Callable[[Checkpoint], dict[str, int]]
SHARD_PARAMETERS = 1 << 30
FEW = 2
EVA_39 = replace(EVA_G14, num_layers=39)


@dataclass(frozen=True)
class Layout:
    """One published checkpoint; `base` is what its delta is added to."""

    shapes: Shapes
    account: Account
    dtype: torch.dtype = torch.float16
    base: Shapes | None = None
    is_folder: bool = False
    wrapper: str | None = None
    arguments: tuple[str, ...] = ()


def main() -> None:
    """Go through the layouts, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layouts", nargs="*")
    parser.add_argument("--llm-layers", type=int, default=FEW, help="of the published 32: a small disk")
    arguments = parser.parse_args()
    known = layouts(arguments.llm_layers)
    figures: dict[str, object] = {"llm_layers": arguments.llm_layers}
    for name in arguments.layouts or known:
        figures[name] = measure(known[name])
        print(name, json.dumps(figures[name]), flush=True)
    name = "checkpoints" if arguments.llm_layers == FEW else f"checkpoints-{arguments.llm_layers}-layers"
    print(record(name, figures))


def measure(layout: Layout) -> dict[str, object]:
    """Write, convert, account."""
    with tempfile.TemporaryDirectory(prefix="btchat-checkpoints-") as place:
        folder = Path(place)
        source = write(folder / "source", layout.shapes, layout)
        given = ["weights", "convert", str(source), "--out", str(folder / "out"), *layout.arguments]
        if layout.base is not None:
            given += ["--base", str(write(folder / "base", layout.base, layout))]
        begin = time.monotonic()
        peak = convert_apart(given)
        seconds = time.monotonic() - begin
        told = account(folder / "out", layout)
        shutil.rmtree(folder / "source")
        parameters = sum(torch.Size(shape).numel() for shape in layout.shapes.values())
        return {
            "tensors": len(layout.shapes),
            "million_parameters": round(parameters / 1e6, 2),
            "gigabytes": round(parameters * layout.dtype.itemsize / 1e9, 2),
            "seconds": round(seconds, 1),
            "peak_memory_mib": peak,
            **told,
        }


def convert_apart(arguments: list[str]) -> int:
    """Run `btchat` in a process of its own; its peak memory in MiB."""
    code = (
        "import sys; from btchat.cli import main; failed = main(sys.argv[1:]);"
        "[sys.stderr.write(line) for line in open('/proc/self/status') if line.startswith('VmHWM')];"
        "sys.exit(failed)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return int(done.stderr.split()[-2]) // 1024


def write(folder: Path, shapes: Shapes, layout: Layout) -> Path:
    """A random checkpoint: one .pth, or .bin shards with an index."""
    folder.mkdir()
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards(shapes)):
        tensors = {name: torch.empty(shapes[name], dtype=layout.dtype).normal_(std=0.02) for name in names}
        file = f"pytorch_model-{number + 1:05d}.bin" if layout.is_folder else "model.pth"
        torch.save({layout.wrapper: tensors, "epoch": 1} if layout.wrapper else tensors, folder / file)
        weight_map |= dict.fromkeys(names, file)
    if not layout.is_folder:
        return folder / "model.pth"
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def shards(shapes: Shapes) -> Iterator[list[str]]:
    """Names, cut where a shard is full."""
    names: list[str] = []
    count = 0
    for name, shape in shapes.items():
        size = torch.Size(shape).numel()
        if names and count + size > SHARD_PARAMETERS:
            yield names
            names, count = [], 0
        names.append(name)
        count += size
    yield names


def account(folder: Path, layout: Layout) -> dict[str, int]:
    """Names left out for a reason, unexplained; then every part into its full-size module, or an error."""
    found = open_weights(folder)
    converted = {name: found.shapes[name] for name in found}
    assert converted == layout.shapes, "the conversion changed names or shapes"
    weights = Weights(str(folder), converted, lambda n: torch.empty(converted[n], device="meta"))
    checkpoint = open_checkpoint(weights)  # refuses names without an explanation
    left = [name for name in weights if checkpoint.layout.why_dropped(name) is not None]
    return {"left_out_for_a_reason": len(left), "unexplained": 0, **layout.account(checkpoint)}


def fill(module: Callable[[], nn.Module], part: str, checkpoint: Checkpoint) -> int:
    """Strictly, on the meta device: an error names what is missing, unexpected or of another shape."""
    with torch.device("meta"):
        built = module()
    load_part(built, checkpoint, part)
    return len(built.state_dict())


def tower(config: ClipVisionConfig, checkpoint: Checkpoint, *, whole: bool) -> int:
    with torch.device("meta"):
        built = ClipVisionTower(config)
    load_vision(built, checkpoint, may_miss=() if whole else CHAT_MAY_MISS)
    return len(built.state_dict())


def branch(config: ClipVisionConfig, checkpoint: Checkpoint) -> int:
    held = read_adapter(checkpoint, gated=False if config.family == "eva" else None)
    with torch.device("meta"):
        built, beside = BTAdapter(config, held.config), ClipVisionTower(config)
    load_adapter(built, held, beside)
    return len(held.state)


def decoder(layers: int, vocabulary: int, checkpoint: Checkpoint) -> int:
    config = OurLlamaConfig(vocabulary, 4096, layers, 32, 32, 11008, 2048)
    return fill(lambda: Llama(config), "lm", checkpoint)


def qformer(checkpoint: Checkpoint) -> int:
    config = qformer_config(checkpoint)
    return fill(lambda: QFormer(config), "qformer", checkpoint)


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 4096), nn.GELU(), nn.Linear(4096, 4096))


def layouts(layers: int) -> dict[str, Layout]:
    """Every published layout that the loaders know."""
    projector = linear("model.mm_projector", 4096, WIDTH)
    text = ClipTextConfig(49408, 77, 768, 12, 12, 3072, 768)
    clip_336 = replace(CLIP_L14, image_size=336)

    def bridge(out: int) -> Account:
        def told(checkpoint: Checkpoint) -> dict[str, int]:
            done = {"qformer": qformer(checkpoint)}
            if any(name.startswith("t5_proj") for name in checkpoint.weights):  # the bridge to another LLM
                return done
            return done | {"projector": fill(lambda: nn.Linear(LAVIS_WIDTH, out), "projector", checkpoint)}

        return told

    return {
        "clip-l14": Layout(
            on_meta(lambda: CLIPModel(CLIPConfig(**clip_l()))),
            lambda w: {
                "tower": tower(CLIP_L14, w, whole=True),
                "text": fill(lambda: ClipTextTower(text), "text", w),
            },
        ),
        "bt-adapter-pretrain": Layout(
            pretrain(),
            lambda w: {"tower": tower(CLIP_L14, w, whole=True), "branch": branch(CLIP_L14, w)},
            torch.float32, wrapper="state_dict",
        ),
        "bt-adapter-sft": Layout(
            clip_branch("model.vision_tower.", 3), lambda w: {"branch": branch(CLIP_L14, w)}, torch.float32
        ),
        "llava-v1": Layout(
            llama(layers, 32003) | projector,
            lambda w: {
                "llm": decoder(layers, 32003, w),
                "projector": fill(lambda: nn.Linear(WIDTH, 4096), "projector", w),
            },
            is_folder=True,
        ),
        "llava-v1-delta": Layout(
            llama(layers, 32003) | projector,
            lambda w: {"llm": decoder(layers, 32003, w)},
            base=llama(layers, 32000), is_folder=True,
        ),
        "llava-1.5": Layout(
            llama(layers, 32000) | linear("model.mm_projector.0", 4096, WIDTH)
            | linear("model.mm_projector.2", 4096, 4096),
            lambda w: {"llm": decoder(layers, 32000, w), "projector": fill(two_layers, "projector", w)},
            is_folder=True,
        ),
        "llava-1.5-hf": Layout(
            hf_llava(layers),
            lambda w: {
                "tower": tower(clip_336, w, whole=False), "llm": decoder(layers, 32064, w),
                "projector": fill(two_layers, "projector", w),
            },
            is_folder=True,
        ),
        "video-chatgpt": Layout(
            {"model.embed_tokens.weight": (32006, 4096), **projector},
            lambda w: {"projector": fill(lambda: nn.Linear(WIDTH, 4096), "projector", w)},
            torch.float32,
        ),
        "eva-vit-g": Layout(
            eva(), lambda w: {"tower": tower(EVA_39, w, whole=False)}, arguments=("--blocks", "39")
        ),
        "minigpt4-blip2": Layout(
            lavis("t5_proj", 4096, has_text=False), bridge(4096), torch.float32, wrapper="model"
        ),
        "minigpt4-projection": Layout(
            linear("llama_proj", 4096, LAVIS_WIDTH) | rotations("llama_model.model.", 32),
            lambda w: {"projector": fill(lambda: nn.Linear(LAVIS_WIDTH, 4096), "projector", w)},
            torch.float32, wrapper="model",
        ),
        "instructblip-lavis": Layout(
            lavis("llm_proj", 4096, has_text=True), bridge(4096), torch.float32, wrapper="model"
        ),
        "instructblip-hf": Layout(
            hf_instructblip(layers),
            lambda w: {
                "tower": tower(EVA_39, w, whole=False), "llm": decoder(layers, 32064, w), **bridge(4096)(w),
            },
            is_folder=True,
        ),
    }  # fmt: skip


if __name__ == "__main__":
    main()
