"""Do the parts of a model belong together? Asked before any large tensor is read (backends spec section 8).

A mismatch is refused by the name of its check. The name may be accepted, in the model file's `accept`; what
was accepted is shown by the server. Where widths do not meet, nothing could be computed with what the file
holds: accepting that puts an untrained part of the right width in its place, to be trained.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bt_model.checkpoints.json_files import read_config
from bt_model.checkpoints.load import holds, read_part, shapes_of
from bt_model.checkpoints.metadata import facts_of, temporal_config
from bt_model.checkpoints.weights import Shape, open_weights
from bt_model.config import EVA_G14, ClipVisionConfig
from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

UNTRAINED = {  # accepted, this is drawn anew
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
_QFORMER_READS = 39  # the hidden state of EVA-CLIP-g that every published Q-Former was trained on (4.2)
_OTHER_EVA = re.compile(r"EVA01_g_plus|EVA01_g_psz14(?!.*s11B)", re.IGNORECASE)
_EVA_START = 36  # the first block that a published EVA branch reads (backends spec 1.3)
_BFLOAT16 = 2**-8 + 2**-10  # relative; half a step of its own 8 bits, and float16's before it
_HALF = 1e-7  # absolute; what is smaller has few bits in float16


@dataclass(frozen=True, slots=True)
class ModelParts:
    """Where the parts of a model lie; a backend without files has no LLM and no projector."""

    tower: Path
    vision: ClipVisionConfig
    adapter: Path | None
    llm: Path | None
    projector: Path | None
    qformer: Path | None
    select_layer: int


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
        CheckpointError: a check failed that is not accepted, or a name was accepted that is no check.
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


def _branch_misfits(parts: ModelParts, adapter: Path) -> Iterator[Misfit]:
    vision, known = parts.vision, _trained_beside(adapter)
    family = "eva" if _is_eva(adapter) else "clip"
    if family != vision.family:
        yield Misfit("family", adapter, f"a branch for {vision.family}", f"a branch for {family}")
        return
    found = {"positions": 1 + vision.num_patches, "blocks": vision.num_layers}
    for check, number in found.items():
        allowed = known.get(check, (number,))
        if number not in allowed:
            yield Misfit(check, parts.tower, " or ".join(map(str, allowed)), str(number))
    if vision.act != _ACTIVATION[family]:
        yield Misfit("activation", parts.tower, _ACTIVATION[family], vision.act)
    source = str(read_config(parts.tower).get("source", ""))
    if _OTHER_EVA.search(source):
        yield Misfit("eva_variant", parts.tower, "EVA01_CLIP_g_14_psz14_s11B or eva_vit_g", source)
    if (differing := _differing(parts, adapter)) is not None:
        yield Misfit("tower_weights", parts.tower, f"the tower inside {adapter.name}", f"another {differing}")


def _trained_beside(adapter: Path) -> Mapping[str, tuple[int, ...]]:
    """Positions and blocks of the tower that a branch was trained beside, as far as anything says so."""
    facts = facts_of(adapter)
    if "positions" in facts:
        return {"positions": (int(facts["positions"]),), "blocks": _allowed(adapter, int(facts["blocks"]))}
    if holds(adapter, "vision"):
        shapes = shapes_of(adapter, "vision")
        blocks = {int(m[1]) for name in shapes if (m := re.match(r"layers\.(\d+)\.", name))}
        if "position_embedding.weight" in shapes:
            positions = shapes["position_embedding.weight"][0]
            return {"positions": (positions,), "blocks": _allowed(adapter, len(blocks))}
    return _PUBLISHED.get(shapes_of(adapter, "adapter").get("cls_token", (0,))[-1], {})


def _allowed(adapter: Path, blocks: int) -> tuple[int, ...]:
    """An EVA tower may lack its last block, as the image chat models' towers do."""
    return (blocks - 1, blocks) if _is_eva(adapter) else (blocks,)


def trained_depth(adapter: Path) -> int | None:
    """Blocks of the trunk that a branch was pre-trained beside, or None where nothing says so.

    A published EVA branch of four layers begins at block 36 of 40; one of three was made for 39.
    """
    facts = facts_of(adapter)
    if "blocks" in facts:
        return int(facts["blocks"])
    if holds(adapter, "vision"):
        return max(_trained_beside(adapter).get("blocks", (0,))) or None
    shapes = shapes_of(adapter, "adapter")
    count = len({name.split(".")[1] for name in shapes if name.startswith("spatial.")})
    return _EVA_START + count if shapes["cls_token"][-1] == EVA_G14.width else None


def _is_eva(adapter: Path) -> bool:
    facts = facts_of(adapter)
    if "family" in facts:
        return facts["family"] == "eva"
    return any(re.search(r"(?i)btadapter_[ST]\.\d+\.", name) for name in open_weights(adapter))


def _differing(parts: ModelParts, source: Path) -> str | None:
    """The first tensor in which the tower differs from the one that another file holds; None without one."""
    if not holds(source, "vision"):
        return None
    mine, theirs = shapes_of(parts.tower, "vision"), shapes_of(source, "vision")
    said = temporal_config(source)
    for name in _compared(parts, mine, is_open=said is not None and said.is_open):
        if name in theirs and mine[name] == theirs[name]:
            (a,), (b,) = (read_part(each, "vision", [name]).values() for each in (parts.tower, source))
            if not _is_same(a, b):
                return name
    return None


def _compared(parts: ModelParts, shapes: Mapping[str, Shape], *, is_open: bool) -> list[str]:
    """Class and position embedding, first and last block that is used; an open model has its own blocks."""
    last = parts.vision.num_layers + parts.select_layer
    embeddings = ("class_embedding", "position_embedding.")
    starts = embeddings if is_open else (*embeddings, "layers.0.", f"layers.{last}.")
    return [name for name in shapes if name.startswith(starts)]


def _is_same(a: "Tensor", b: "Tensor") -> bool:
    """Equal in float16, in which the published towers were made; a bfloat16 file within its few bits."""
    if torch.bfloat16 in (a.dtype, b.dtype):
        return torch.allclose(a.float(), b.float(), rtol=_BFLOAT16, atol=_HALF)
    return torch.equal(a.half(), b.half())


def _chat_misfits(parts: ModelParts) -> Iterator[Misfit]:
    if parts.llm is None or not (parts.llm / "config.json").is_file():
        return
    config = read_config(parts.llm)
    if parts.qformer is None:
        for name in ("mm_vision_select_layer", "vision_feature_layer"):
            if name in config and config[name] != parts.select_layer:
                yield Misfit("select_layer", parts.llm, f"{name} {parts.select_layer}", repr(config[name]))
    yield from _tuned_misfits(parts)
    yield from _width_misfits(parts, config)


def _layer_misfits(parts: ModelParts) -> Iterator[Misfit]:
    vision = parts.vision
    is_known = parts.qformer is not None and vision.family == "eva" and vision.width == EVA_G14.width
    read = vision.num_layers + 1 + parts.select_layer
    if is_known and read != _QFORMER_READS:
        found = f"{read}, by select_layer {parts.select_layer} of {vision.num_layers} blocks"
        yield Misfit("select_layer", parts.tower, f"hidden state {_QFORMER_READS}", found)


def _tuned_misfits(parts: ModelParts) -> Iterator[Misfit]:
    """A tower that comes with the chat model's own files, and is not the one that is used."""
    for place in dict.fromkeys(part for part in (parts.llm, parts.qformer, parts.projector) if part):
        is_other = place.resolve() != parts.tower.resolve()
        if is_other and (name := _differing(parts, place)) is not None:
            yield Misfit("tuned_tower", place, f"the tower of {parts.tower.name}", f"its own {name}")


def _width_misfits(parts: ModelParts, config: Mapping[str, Any]) -> Iterator[Misfit]:
    width = parts.vision.width
    if parts.qformer is not None:
        shapes = shapes_of(parts.qformer, "qformer")
        seen = shapes.get("ln_vision.weight", (width,))[0]
        if seen != width:
            yield Misfit("qformer_in", parts.qformer, f"{width}, the tower's width", str(seen))
        width = shapes.get("query_tokens", (width,))[-1]
    if parts.projector is None:
        return
    projector = shapes_of(parts.projector, "projector")
    first, last = (projector.get(name) for name in _ends(projector))
    nested = config.get("text_config")
    llm_width = config.get("hidden_size", nested.get("hidden_size") if isinstance(nested, dict) else None)
    if first is not None and first[1] != width:
        yield Misfit("projector_in", parts.projector, str(width), str(first[1]))
    if last is not None and llm_width not in (None, last[0]):
        yield Misfit("projector_out", parts.projector, f"{llm_width}, the LLM's width", str(last[0]))


def _ends(projector: Mapping[str, Shape]) -> tuple[str, str]:
    return ("0.weight", "2.weight") if "0.weight" in projector else ("weight", "weight")
