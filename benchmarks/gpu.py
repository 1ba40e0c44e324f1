"""A GPU against its own limits: decoding, prompts, encoding, the first token, quantised weights.

python -m benchmarks.gpu: random weights of full size (a Llama of 7B, CLIP ViT-L/14 with a branch of four
layers), about four minutes and 60 GB; it needs torch, transformers and einops. Kernels are compared with
torch's operators first. Limits are measured in the same run: bytes over the rate of a copy, operations over
the rate of a large matrix product. --tiny tries the same on a CPU with small shapes.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.device import WARM_UP, Place, copy_rate, memory_of, product_rate, seconds_of, synchronise
from bt_model.config import CLIP_L14, VICUNA_7B, BTAdapterConfig, ClipVisionConfig, LlamaConfig
from bt_model.errors import BtchatError
from bt_model.generation.chunk import Chunk, pages_of
from bt_model.generation.decode_kernels import DecodeKernels, TorchKernels
from bt_model.generation.engine import BatchEngine
from bt_model.generation.kernel_choice import TOLERANCES, largest_error, triton_kernels
from bt_model.generation.language_model import compute
from bt_model.generation.llama import Llama
from bt_model.generation.llama_runner import LlamaRunner
from bt_model.generation.paged_runner import PagedRunner
from bt_model.generation.quantised import quantise
from bt_model.generation.request import Delta, GenRequest, Soft, Tokens
from bt_model.video.transform import normalise
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import VideoEncoder, encode_shared

QUESTION = tuple(range(10, 34))


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is measured."""

    llama: LlamaConfig
    vision: ClipVisionConfig
    rows: tuple[int, ...] = (1, 16, 64)
    context: int = 450  # positions before the first new one
    video: int = 276  # soft tokens of a prompt
    prompt: int = 512  # tokens of a step of prompts alone
    frames: int = 100
    steps: int = 64
    side: int = 8192  # of the matrices that measure
    copied: int = 4 << 30  # bytes of the copy that measures


FULL = Sizes(VICUNA_7B, CLIP_L14)
TINY = Sizes(
    LlamaConfig(320, 64, 2, 4, 2, 96, 256),
    replace(CLIP_L14, image_size=32, patch_size=8, width=64, num_layers=4, num_heads=4, mlp_width=128,
            projection_dim=32),
    rows=(1, 3), context=140, video=20, prompt=64, frames=4, steps=4, side=64, copied=1 << 16,
)  # fmt: skip


def main() -> int:
    """Measure and print; 1 without a GPU, or where a kernel is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--tiny", action="store_true", help="small shapes, on a CPU if there is no GPU")
    args = parser.parse_args()
    if not torch.cuda.is_available() and not args.tiny:
        print("no CUDA device here; --tiny tries the same code on a CPU", file=sys.stderr)
        return 1
    began = time.perf_counter()
    figures = measured(TINY if args.tiny else FULL)
    figures["seconds"] = time.perf_counter() - began
    print(f"took {figures['seconds']:.0f} s")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["kernels"]["are_right"] else 1


@torch.inference_mode()
def measured(sizes: Sizes) -> dict[str, Any]:
    """All figures, printed one by one."""
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    kernels = triton_kernels(sizes.llama, device, dtype) or TorchKernels()
    place = Place(device, dtype, copy_rate(sizes.copied, device), product_rate(sizes.side, device, dtype))
    figures: dict[str, Any] = {}

    def keep(part: str, values: Any) -> None:
        figures[part] = values
        print(part, json.dumps(values), flush=True)

    keep("device", {
        "name": name, "torch": torch.__version__, "kernels": type(kernels).__name__,
        "copy_tb_s": place.bytes_per_second / 1e12, "matmul_tflop_s": place.flops_per_second / 1e12,
    })  # fmt: skip
    keep("kernels", check(sizes, place, kernels))
    keep("quantised", [quantised(sizes, place, kind) for kind in ("int8", "nf4")])
    keep("encode", encoding(sizes, place))
    lm = place.new(lambda: Llama(sizes.llama))
    for part, values in runner_figures(sizes, place, lm, kernels):
        keep(part, values)
    keep("engine", engine_figures(sizes, lm))
    return figures


def check(sizes: Sizes, place: Place, kernels: DecodeKernels) -> dict[str, Any]:
    """Kernels against torch's operators, and steps over pages against the gathered cache."""
    error = largest_error(kernels, sizes.llama, place.device, place.dtype)
    lm = place.new(lambda: Llama(replace(sizes.llama, num_layers=2)))
    runners = (
        PagedRunner(lm.model, lm.head_weight, 8, kernels),
        LlamaRunner(lm.model, lm.head_weight, 8),
    )
    x, pages, logits = place.random(150, sizes.llama.width), (3, 5), list[Tensor]()
    for runner in runners:
        compute(runner, x[:130], [Chunk(pages, 0, 130, is_prompt=True)])
        for at in (130, 131, 132):  # recorded, then replayed
            last = compute(runner, x[at : at + 1], [Chunk(pages, at, 1, is_prompt=False)])
        logits.append(last[0].float())
    apart = ((logits[0] - logits[1]).abs().max() / logits[1].abs().max()).item()
    most = TOLERANCES[place.dtype]
    return {"error": error, "logits_apart": apart, "are_right": error < most and apart < most}


def runner_figures(sizes: Sizes, place: Place, lm: Llama, kernels: DecodeKernels) -> list[tuple[str, Any]]:
    """Steps of rows alone and of prompts alone."""
    pages = pages_of(sizes.context + sizes.steps + WARM_UP)
    prompt_pages = pages_of(sizes.prompt)
    count = max(max(sizes.rows) * pages, prompt_pages)
    figures: list[tuple[str, Any]] = []
    held: dict[str, Any] = {}
    with memory_of(place.device, held):
        runner = PagedRunner(lm.model, lm.head_weight, count, kernels)
        for rows in sizes.rows:
            figures.append((f"decode_{rows}", decoding(sizes, place, lm, runner, rows)))
    figures[-1][1].update(held)
    x = place.random(sizes.prompt, sizes.llama.width)
    chunk = Chunk(tuple(range(1, 1 + prompt_pages)), 0, sizes.prompt, is_prompt=True)
    seconds = seconds_of(lambda: compute(runner, x, [chunk]), place.device)
    floor = 2 * num_weights(lm) * sizes.prompt / place.flops_per_second
    figures.append(("prefill", against(sizes.prompt / floor, sizes.prompt / seconds, "tokens_per_second")))
    return figures


def decoding(sizes: Sizes, place: Place, lm: Llama, runner: PagedRunner, rows: int) -> dict[str, Any]:
    """Steps of so many rows, each with its id looked up and the best next one read."""
    pages = pages_of(sizes.context + sizes.steps + WARM_UP)
    own = [tuple(range(1 + row * pages, 1 + (row + 1) * pages)) for row in range(rows)]
    ids = torch.zeros(rows, dtype=torch.int64)
    begin = 0.0
    for step in range(WARM_UP + sizes.steps):
        if step == WARM_UP:
            begin = time.perf_counter()
        chunks = [Chunk(each, sizes.context + step, 1, is_prompt=False) for each in own]
        ids = compute(runner, lm.embed(ids), chunks).argmax(-1).cpu()
    rate = rows * sizes.steps / (time.perf_counter() - begin)
    per_position = lm.page_bytes // 128
    context = sizes.context + WARM_UP + sizes.steps // 2
    num_bytes = num_weights(lm) * place.dtype.itemsize + rows * context * per_position
    return against(rows * place.bytes_per_second / num_bytes, rate, "tokens_per_second")


def num_weights(lm: Llama) -> int:
    """Those that every token is multiplied by: all but the table of embeddings."""
    return sum(p.numel() for p in lm.parameters()) - lm.model.embed_tokens.weight.numel()


def against(ceiling: float, achieved: float, unit: str) -> dict[str, Any]:
    return {"unit": unit, "ceiling": ceiling, "achieved": achieved, "ratio": achieved / ceiling}


def encoding(sizes: Sizes, place: Place) -> dict[str, Any]:
    """One clip of frames through tower and branch; seconds, against its matrix products alone."""
    side = sizes.vision.image_size
    encoder = VideoEncoder(
        place.new(lambda: ClipVisionTower(sizes.vision)),
        place.new(lambda: BTAdapter(sizes.vision, BTAdapterConfig(num_layers=4, max_frames=sizes.frames))),
    )
    clip = torch.randint(256, (sizes.frames, side, side, 3), dtype=torch.uint8, device=place.device)

    def encode() -> object:
        return encode_shared([encoder], normalise(clip)[None].to(place.dtype))

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        encode()
    held: dict[str, Any] = {}
    with memory_of(place.device, held):
        seconds = seconds_of(encode, place.device, repeats=5)
    floor = counter.get_total_flops() / place.flops_per_second
    return {
        "frames": sizes.frames,
        "floor_ms": floor * 1e3,
        "ms": seconds * 1e3,
        "times": seconds / floor,
    } | held


def engine_figures(sizes: Sizes, lm: Llama) -> dict[str, Any]:
    """Requests through the engine: first tokens of a known video, and tokens of the most rows."""
    rows = max(sizes.rows)
    engine = BatchEngine(lm, max_batch=rows, max_context=sizes.context + 2 * sizes.steps, keep_weights=False)
    soft = torch.randn(sizes.video, sizes.llama.width, device="cpu")
    engine.start()
    try:
        first = [
            first_token_seconds(engine, asked(soft, f"first{i}", 2, owner=b"a", turn=i)) for i in range(8)
        ]
        width = sizes.context - sizes.video - len(QUESTION)
        answers = [asked(soft, f"r{i}", sizes.steps, owner=b"b", turn=i, width=width) for i in range(rows)]
        begin = time.perf_counter()
        handles = [engine.submit(request) for request in answers]
        said = sum(len(event.token_ids) for h in handles for event in h.stream() if isinstance(event, Delta))
        seconds = time.perf_counter() - begin
    finally:
        engine.stop()
    return {
        "new_video_first_token_ms": first[0] * 1e3, "known_video_first_token_ms": median(first[2:]) * 1e3,
        "rows": rows, "answers_tokens_per_second": said / seconds, "prompts_included": True,
    }  # fmt: skip


def asked(
    soft: Tensor, name: str, new: int, *, owner: bytes, turn: int, width: int = len(QUESTION)
) -> GenRequest:
    """A video and a question of `width` tokens of its own."""
    question = Tokens(tuple((7 * turn + i) % 300 for i in range(width)))
    return GenRequest(name, (Tokens(QUESTION), Soft(b"video", soft), question), new, frozenset(), owner=owner)


def first_token_seconds(engine: BatchEngine, request: GenRequest) -> float:
    begin, events = time.perf_counter(), engine.submit(request).stream()
    next(events)
    seconds = time.perf_counter() - begin
    list(events)
    return seconds


def quantised(sizes: Sizes, place: Place, kind: Any) -> dict[str, Any]:
    """Memory of two layers of the decoder beside the product's estimate, in GB."""
    result: dict[str, Any] = {"kind": kind}
    try:
        from bt_model.assembly.memory import decoder_bytes  # noqa: PLC0415 - needs pydantic

        cpu = replace(place, device=torch.device("cpu"))
        lm = cpu.new(lambda: Llama(replace(sizes.llama, num_layers=2)))
        shapes = {name: tuple(p.shape) for name, p in lm.named_parameters()}
        with memory_of(place.device, result):
            lm = quantise(lm, kind, place.device)
            synchronise(place.device)
        result["estimate_gb"] = decoder_bytes(shapes, place.dtype, kind) / 1e9
        if place.device.type == "cuda":
            result["held_gb"] = torch.cuda.memory_allocated(place.device) / 1e9
    except (ImportError, BtchatError) as error:
        result["skipped"] = str(error)
    return result


if __name__ == "__main__":
    sys.exit(main())
