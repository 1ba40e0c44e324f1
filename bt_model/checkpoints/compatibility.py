"""Checks that the parts of a model belong together, before any large tensor is read.

Each mismatch is refused under the name of a check (docs/weights.md, "Do the parts fit?"). The model file's
`accept` lists checks that may fail; /version shows those that did. Where widths differ, the file's tensors
cannot be used: accepting that puts an untrained part of the right width in their place.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bt_model.checkpoints.layouts.key_map import Shape
from bt_model.checkpoints.weights import Checkpoint, Weights
from bt_model.config import EVA_G14, ClipVisionConfig
from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

UNTRAINED = {  # failed check -> the part that is initialised instead if it is accepted
    "projector_in": "the projector",
    "projector_out": "the projector",
    "qformer_in": "what the Q-Former reads the tower with",
}
CHECKS = (
    "family", "positions", "blocks", "activation", "eva_variant", "tower_weights", "tuned_tower",
    "select_layer", *UNTRAINED,
)  # fmt: skip

# What the published branches were trained beside, by their width: CLIP ViT-L/14 and EVA-CLIP-g/14, at 224.
_PUBLISHED: dict[int, dict[str, tuple[int, ...]]] = {
    1024: {"positions": (257,), "blocks": (24,)},
    1408: {"positions": (257,), "blocks": (39, 40)},
}
_ACTIVATION = {"clip": "quick_gelu", "eva": "gelu"}
_QFORMER_READS = 39  # the hidden state of EVA-CLIP-g that every published Q-Former was trained on
_OTHER_EVA = re.compile(r"EVA01_g_plus|EVA01_g_psz14(?!.*s11B)", re.IGNORECASE)
_EVA_START = 36  # the first block that a published EVA branch reads: the last 4 of 40
_BFLOAT16 = 2**-8 + 2**-10  # relative tolerance: rounding to float16, then to bfloat16
_HALF = 1e-7  # absolute tolerance: float16 is imprecise below it


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A model's files, each opened once; a backend without files has no LLM and no projector."""

    tower: Checkpoint
    vision: ClipVisionConfig
    select_layer: int
    adapter: Checkpoint | None = None
    llm: Checkpoint | None = None
    projector: Checkpoint | None = None
    qformer: Checkpoint | None = None

    @property
    def files(self) -> tuple[Weights, ...]:
        """Every file of weights once, though parts may share one."""
        parts = (self.tower, self.adapter, self.llm, self.projector, self.qformer)
        held = [part for part in parts if part is not None]
        return tuple({id(file): file for part in held for file in part.weights.files}.values())


@dataclass(frozen=True, slots=True)
class Misfit:
    """One failed check."""

    check: str
    where: Path
    expected: str
    found: str

    def __str__(self) -> str:
        way_out = f'accept it with "accept": ["{self.check}"] in the model file'
        cost = f", and {UNTRAINED[self.check]} is untrained" if self.check in UNTRAINED else ""
        return f"{self.where}: {self.check}: expected {self.expected}, found {self.found}; {way_out}{cost}"


def check_model(parts: ModelParts, accepted: Collection[str]) -> tuple[str, ...]:
    """The checks that failed and were accepted.

    Raises:
        CheckpointError: a check failed that is not accepted, or `accepted` names no check.
    """
    unknown = [name for name in accepted if name not in CHECKS]
    if unknown:
        raise CheckpointError(f"accept names {', '.join(unknown)}; allowed: {', '.join(CHECKS)}")
    misfits = list(find_misfits(parts))
    refused = [misfit for misfit in misfits if misfit.check not in accepted]
    if refused:
        raise CheckpointError("; ".join(map(str, refused)), code="misfit")
    return tuple(dict.fromkeys(misfit.check for misfit in misfits))


def find_misfits(parts: ModelParts) -> Iterator[Misfit]:
    """Every failed check."""
    if parts.adapter is not None:
        yield from _branch_misfits(parts, parts.adapter)
    yield from _layer_misfits(parts)
    yield from _chat_misfits(parts)


def _branch_misfits(parts: ModelParts, adapter: Checkpoint) -> Iterator[Misfit]:
    vision, tower, known = parts.vision, parts.tower.path, _trained_beside(adapter)
    family = "eva" if _is_eva(adapter) else "clip"
    if family != vision.family:
        yield Misfit("family", adapter.path, f"a branch for {vision.family}", f"a branch for {family}")
        return
    found = {"positions": 1 + vision.num_patches, "blocks": vision.num_layers}
    for check, number in found.items():
        allowed = known.get(check, (number,))
        if number not in allowed:
            yield Misfit(check, tower, " or ".join(map(str, allowed)), str(number))
    if vision.act != _ACTIVATION[family]:
        yield Misfit("activation", tower, _ACTIVATION[family], vision.act)
    source = str(parts.tower.required_config().get("source", ""))
    if _OTHER_EVA.search(source):
        yield Misfit("eva_variant", tower, "EVA01_CLIP_g_14_psz14_s11B or eva_vit_g", source)
    if (differing := _differing(parts, adapter)) is not None:
        yield Misfit("tower_weights", tower, f"the tower inside {adapter.path.name}", f"another {differing}")


def _trained_beside(adapter: Checkpoint) -> Mapping[str, tuple[int, ...]]:
    """Positions and blocks of the tower that a branch was trained beside, as far as they are known."""
    metadata, vision = adapter.metadata, adapter.shapes("vision")
    if "positions" in metadata:
        return {"positions": (metadata["positions"],), "blocks": _allowed(adapter, metadata["blocks"])}
    if "position_embedding.weight" in vision:
        blocks = adapter.count_layers("vision", "layers.")
        return {"positions": (vision["position_embedding.weight"][0],), "blocks": _allowed(adapter, blocks)}
    return _PUBLISHED.get(adapter.shapes("adapter").get("cls_token", (0,))[-1], {})


def _allowed(adapter: Checkpoint, blocks: int) -> tuple[int, ...]:
    """An EVA tower may lack its last block, as the image chat models' towers do."""
    return (blocks - 1, blocks) if _is_eva(adapter) else (blocks,)


def trained_depth(adapter: Checkpoint) -> int | None:
    """Blocks of the trunk that a branch was pre-trained beside, or None where that is not known.

    A published EVA branch of four layers begins at block 36 of 40; one of three was made for 39.
    """
    if "blocks" in adapter.metadata:
        return adapter.metadata["blocks"]
    if "vision" in adapter.parts:
        return max(_trained_beside(adapter).get("blocks", (0,))) or None
    width = adapter.shapes("adapter")["cls_token"][-1]
    return _EVA_START + adapter.count_layers("adapter", "spatial.") if width == EVA_G14.width else None


def _is_eva(adapter: Checkpoint) -> bool:
    if "family" in adapter.metadata:
        return adapter.metadata["family"] == "eva"
    return any(re.search(r"(?i)btadapter_[ST]\.\d+\.", name) for name in adapter.weights)


def _differing(parts: ModelParts, other: Checkpoint) -> str | None:
    """The first tensor in which the tower differs from another file's tower; None if they are equal."""
    mine, theirs = parts.tower.shapes("vision"), other.shapes("vision")
    is_open = other.temporal is not None and other.temporal.is_open
    for name in _compared(parts, mine, is_open=is_open):
        if mine[name] == theirs.get(name):
            a, b = (each.read("vision", [name])[name] for each in (parts.tower, other))
            if not _is_same(a, b):
                return name
    return None


def _compared(parts: ModelParts, names: Collection[str], *, is_open: bool) -> list[str]:
    """Names to compare: embeddings, first and last used block; an open model has blocks of its own."""
    last = parts.vision.num_layers + parts.select_layer
    embeddings = ("class_embedding", "position_embedding.")
    prefixes = embeddings if is_open else (*embeddings, "layers.0.", f"layers.{last}.")
    return [name for name in names if name.startswith(prefixes)]


def _is_same(a: "Tensor", b: "Tensor") -> bool:
    """Equal in float16, the format of the published towers; bfloat16 files within rounding."""
    if torch.bfloat16 in (a.dtype, b.dtype):
        return torch.allclose(a.float(), b.float(), rtol=_BFLOAT16, atol=_HALF)
    return torch.equal(a.half(), b.half())


def _chat_misfits(parts: ModelParts) -> Iterator[Misfit]:
    if parts.llm is None or parts.llm.config is None:
        return
    config = parts.llm.config
    if parts.qformer is None:
        for name in ("mm_vision_select_layer", "vision_feature_layer"):
            if name in config and config[name] != parts.select_layer:
                expected = f"{name} {parts.select_layer}"
                yield Misfit("select_layer", parts.llm.path, expected, repr(config[name]))
    yield from _tuned_misfits(parts)
    yield from _width_misfits(parts, config)


def _layer_misfits(parts: ModelParts) -> Iterator[Misfit]:
    vision = parts.vision
    is_known = parts.qformer is not None and vision.family == "eva" and vision.width == EVA_G14.width
    read = vision.num_layers + 1 + parts.select_layer
    if is_known and read != _QFORMER_READS:
        found = f"{read}, by select_layer {parts.select_layer} of {vision.num_layers} blocks"
        yield Misfit("select_layer", parts.tower.path, f"hidden state {_QFORMER_READS}", found)


def _tuned_misfits(parts: ModelParts) -> Iterator[Misfit]:
    """A tower in the chat model's own files that differs from the one that is used."""
    others = dict.fromkeys(part for part in (parts.llm, parts.qformer, parts.projector) if part is not None)
    for other in others:
        if other is not parts.tower and (name := _differing(parts, other)) is not None:
            yield Misfit(
                "tuned_tower", other.path, f"the tower of {parts.tower.path.name}", f"its own {name}"
            )


def _width_misfits(parts: ModelParts, config: Mapping[str, Any]) -> Iterator[Misfit]:
    width = parts.vision.width
    if parts.qformer is not None:
        shapes = parts.qformer.shapes("qformer")
        read = shapes.get("ln_vision.weight", (width,))[0]
        if read != width:
            yield Misfit("qformer_in", parts.qformer.path, f"{width}, the tower's width", str(read))
        width = shapes.get("query_tokens", (width,))[-1]
    if parts.projector is None:
        return
    where, projector = parts.projector.path, parts.projector.shapes("projector")
    first, last = (projector.get(name) for name in _ends(projector))
    nested = config.get("text_config")
    llm_width = config.get("hidden_size", nested.get("hidden_size") if isinstance(nested, dict) else None)
    if first is not None and first[1] != width:
        yield Misfit("projector_in", where, str(width), str(first[1]))
    if last is not None and llm_width not in (None, last[0]):
        yield Misfit("projector_out", where, f"{llm_width}, the LLM's width", str(last[0]))


def _ends(projector: Mapping[str, Shape]) -> tuple[str, str]:
    return ("0.weight", "2.weight") if "0.weight" in projector else ("weight", "weight")
