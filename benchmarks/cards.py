"""Which published models start on which cards, by the server's own accounting: no GPU, no weights.

python -m benchmarks.cards. Checkpoints of full size are written as headers over files without content, which
take no room on disk; the loader sees a card of so much memory of which a driver and torch have taken a part.
"""

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, LlamaConfig
from transformers import LlamaForCausalLM as HfLlama

from benchmarks.published import Shapes, clip_branch, clip_l, on_meta
from benchmarks.record import record
from bt_model.assembly.placement import Placement
from bt_model.generation.chunk import PAGE
from bt_model.types import Quantise
from server.worker.loader import DEFAULT_CACHE, CacheSettings, DiskLoader, Need

CARDS = (16, 24, 40, 80, 141)  # GB, as they are sold
_GB = 10**9
_TAKEN = 700 * 2**20  # by the driver's context and torch's libraries
_MAX_BATCH = 64
_SHARDS = 6


@dataclass(frozen=True, slots=True)
class Decoder:
    """Sizes of a published LLM."""

    name: str
    width: int
    layers: int
    heads: int
    mlp: int
    context: int


DECODERS = (
    Decoder("LLaVA v1 7B", 4096, 32, 32, 11008, 2048),
    Decoder("LLaVA-1.5 7B", 4096, 32, 32, 11008, 4096),
    Decoder("LLaVA-1.5 13B", 5120, 40, 40, 13824, 4096),
)
WAYS: tuple[tuple[str, Quantise], ...] = (("bfloat16", "none"), ("bfloat16", "int8"), ("bfloat16", "nf4"))


class PretendedCard(DiskLoader):
    """A loader on a card that is not there."""

    def __init__(self, model: Path, gigabytes: int, quantise: Quantise, cache: CacheSettings) -> None:
        super().__init__([str(model)], model.parent, device="cpu", dtype="bfloat16", cache=cache)
        self._place = Placement(torch.device("cuda"), torch.bfloat16, quantise)
        self._quantise = quantise
        self._free = gigabytes * _GB - _TAKEN

    def free_bytes(self) -> int:
        return self._free


def main() -> None:
    """Print a line for each model, format and card, and record them."""
    with tempfile.TemporaryDirectory(prefix="btchat-cards-") as folder:
        rows = list(_rows(Path(folder)))
    print(f"{'model':15}{'weights':10}{'card':>6}  starts   GB together   answers of whole contexts at once")
    for row in rows:
        starts = f"yes   {row['gigabytes']:12.1f}   {row['answers']}" if row["starts"] else "no"
        print(f"{row['model']:15}{row['weights']:10}{row['card']:>6}  {starts}")
    print(record("cards", {"rows": rows}))


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for decoder in DECODERS:
        model = write_model(decoder, folder / decoder.name.replace(" ", "-"))
        for dtype, quantise in WAYS:
            for card in CARDS:
                cache = CacheSettings(max_batch=_MAX_BATCH, reserved_bytes=DEFAULT_CACHE.reserved_bytes)
                loader = PretendedCard(model, card, quantise, cache)
                need = loader.estimate(loader.ids[0])
                weights = dtype if quantise == "none" else quantise
                yield {"model": decoder.name, "weights": weights, "card": card, **_fit(need, loader)}


def _fit(need: Need, loader: DiskLoader) -> dict[str, Any]:
    contexts = need.num_pages * PAGE // need.max_context
    starts = need.total <= loader.free_bytes()
    return {"starts": starts, "gigabytes": need.total / _GB, "answers": min(contexts, need.max_batch)}


def write_model(decoder: Decoder, folder: Path) -> Path:
    """A model file of LLaVA with CLIP-L/14, a branch and a decoder of these sizes, and what it names."""
    for name in ("clip", "llm"):
        (folder / name).mkdir(parents=True)
    clip = clip_l()
    _write_header(folder / "clip/model.safetensors", on_meta(lambda: CLIPModel(CLIPConfig(**clip))))
    (folder / "clip/config.json").write_text(json.dumps({"model_type": "clip", **clip}))
    _write_header(folder / "branch.safetensors", clip_branch("backbone.", 4))
    sizes = LlamaConfig(
        vocab_size=32_003, hidden_size=decoder.width, intermediate_size=decoder.mlp,
        num_hidden_layers=decoder.layers, num_attention_heads=decoder.heads,
        max_position_embeddings=decoder.context,
    )  # fmt: skip
    shapes = on_meta(lambda: HfLlama(sizes))
    projector = {
        "model.mm_projector.weight": (decoder.width, 1024),
        "model.mm_projector.bias": (decoder.width,),
    }
    _write_shards(folder / "llm", shapes | projector)
    config = sizes.to_dict() | {"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"]}
    (folder / "llm/config.json").write_text(json.dumps(config))
    model = folder / f"{folder.name}.model.json"
    files = {"tower": "clip", "adapter": "branch.safetensors", "llm": "llm", "projector": "llm"}
    model.write_text(json.dumps({"id": folder.name, "backend": "llava", **files}))
    return model


def _write_shards(folder: Path, shapes: Shapes) -> None:
    """Some files, as published: one that is larger than the machine's memory could not be mapped."""
    names = list(shapes)
    shards = {f"model-{i}.safetensors": names[i::_SHARDS] for i in range(_SHARDS)}
    for file, held in shards.items():
        _write_header(folder / file, {name: shapes[name] for name in held})
    weight_map = {name: file for file, held in shards.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def _write_header(path: Path, shapes: Shapes) -> None:
    """A file of float16 tensors whose content is never written."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


if __name__ == "__main__":
    main()
