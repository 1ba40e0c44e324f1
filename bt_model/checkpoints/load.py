"""Published weights into our modules: strict, shapes before bytes, every misfit named in one error.

D width, K branch layers, L trunk layers. Rules: reference-behaviour section 10.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from bt_model.checkpoints.layouts.detect import detect
from bt_model.checkpoints.layouts.key_map import KeyMap, Stored
from bt_model.checkpoints.metadata import temporal_config
from bt_model.checkpoints.weights import Shape, Source, Weights, open_weights
from bt_model.config import BTAdapterConfig
from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bt_model.text.clip_text import ClipTextTower
    from bt_model.vision.bt_adapter import BTAdapter
    from bt_model.vision.clip import ClipVisionTower

Side: TypeAlias = Literal["chat", "retrieval"]

# The chat side reads layers before either, and its files may hold neither.
CHAT_MAY_MISS = ("visual_projection.", "post_layernorm.")


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """A branch as a file describes it: `state` by our names; layers of `config` that it lacks stay fresh."""

    where: str
    config: BTAdapterConfig
    state: "dict[str, Tensor]"


def holds(source: Source, part: str) -> bool:
    """Whether a checkpoint has tensors of a part (a fine-tuned branch file has no trunk, for example).

    Raises:
        CheckpointError: a file that cannot be read, or names of no known layout.
    """
    weights = open_weights(source)
    return bool(_sources(weights, detect(weights, weights.where), part))


def shapes_of(source: Source, part: str) -> dict[str, Shape]:
    """Parameter names of one part of a checkpoint, with their shapes; no tensor is read.

    Raises:
        CheckpointError: a file that cannot be read, or names of no known layout.
    """
    weights = open_weights(source)
    sources = _sources(weights, detect(weights, weights.where), part)
    return {name: stored.shape(weights.shapes[stored.key]) for name, stored in sources.items()}


def read_part(source: Source, part: str, names: Collection[str]) -> "dict[str, Tensor]":
    """Some tensors of one part of a checkpoint, by our names.

    Raises:
        CheckpointError: a file that cannot be read, or names of no known layout.
    """
    weights = open_weights(source)
    sources = _sources(weights, detect(weights, weights.where), part)
    return _read(weights, {name: sources[name] for name in names})


def refuse_more_layers(folder: Path, part: str, start: str, num_layers: int) -> None:
    """Before a module of that many layers is built: its config.json may say any number.

    Raises:
        CheckpointError: the folder's weights hold fewer layers, whose names begin with `start`.
    """
    names = shapes_of(folder, part)
    stored = {name.removeprefix(start).split(".")[0] for name in names if name.startswith(start)}
    if num_layers > len(stored):
        allowed = f"up to {len(stored)}, which its weights hold"
        raise CheckpointError(f"{folder}/config.json: num_hidden_layers is {num_layers}; allowed: {allowed}")


def load_vision(tower: "ClipVisionTower", source: Source, *, may_miss: tuple[str, ...] = ()) -> None:
    """Fill the trunk; parameters whose names start with one of `may_miss` may be absent and stay as they are.

    Raises:
        CheckpointError: tensors that are missing, unexpected or wrongly shaped.
    """
    load_part(tower, source, "vision", may_miss=may_miss, num_layers=tower.config.num_layers)


def load_text(tower: "ClipTextTower", source: Source) -> None:
    """Fill the text tower.

    Raises:
        CheckpointError: tensors that are missing, unexpected or wrongly shaped.
    """
    load_part(tower, source, "text")


def load_part(
    module: "nn.Module",
    source: Source,
    part: str,
    *,
    may_miss: tuple[str, ...] = (),
    without: Collection[str] = (),
    num_layers: int | None = None,
) -> None:
    """Fill a module with one part (checkpoints.keys.PARTS) of a checkpoint of any known layout.

    Tensors `without` are not read, whatever their shape; they become nan, as what `may_miss` and does.

    Raises:
        CheckpointError: tensors that are missing, unexpected or wrongly shaped.
    """
    weights = open_weights(source)
    keys = detect(weights, weights.where, num_layers)
    sources = {n: stored for n, stored in _sources(weights, keys, part).items() if n not in without}
    found = {name: stored.shape(weights.shapes[stored.key]) for name, stored in sources.items()}
    lacking = _lacking_key_biases(sources) if keys.is_fused(part) else {}
    _check(
        weights.where,
        module,
        found | {name: found[query] for name, query in lacking.items()},
        (*may_miss, *without),
    )
    state = _read(weights, sources)
    _fill(module, state | {name: torch.zeros_like(state[query]) for name, query in lacking.items()})


def read_adapter(
    source: Source, *, side: Side = "chat", gated: bool | None = None, num_layers: int | None = None
) -> AdapterWeights:
    """The branch in a checkpoint: its configuration from what it says or from the shapes, and its tensors.

    A file that names its kind has the gates that it says. In others absent gate vectors become zeros (gates
    of one half) on the chat side and plain sums on the retrieval side. `gated` overrides both. Files of chat
    training lack the last branch layer, so K is one more than they hold; `num_layers` overrides K.

    Raises:
        CheckpointError: no branch, or layers that are not numbered from 0.
    """
    weights = open_weights(source)
    keys = detect(weights, weights.where)
    sources = _sources(weights, keys, "adapter")
    if "cls_token" not in sources or "time_embed.weight" not in sources:
        raise CheckpointError(f"{weights.where}: missing adapter.cls_token or adapter.time_embed.weight")
    stored = _count_layers(weights.where, sources)
    is_fused = keys.is_fused("adapter")
    config = _described(source, sources, "retrieval" if is_fused else side, gated)
    scales = {"balance1": config.output_gate, "balance2": config.middle_gate}
    unused = {gate for gate, scale in scales.items() if scale is None}
    state = _read(weights, {name: place for name, place in sources.items() if name not in unused})
    if is_fused:
        lacking = _lacking_key_biases(sources)
        state |= {name: torch.zeros_like(state[query]) for name, query in lacking.items()}
    for gate in scales.keys() - unused:
        state.setdefault(gate, torch.zeros_like(state["cls_token"]))
    config = replace(
        config,
        num_layers=num_layers or stored + int(keys.ends_early),
        max_frames=state["time_embed.weight"].shape[0],
    )
    return AdapterWeights(weights.where, config, state)


def _described(source: Source, names: Collection[str], side: Side, gated: bool | None) -> BTAdapterConfig:
    """What a file says of its branch; its gates as `read_adapter` says (an EVA branch was never gated)."""
    said = temporal_config(source)
    if said is not None and gated is None:
        return said.branch
    base = BTAdapterConfig() if said is None else said.branch

    def scale(gate: str, default: float | None) -> float | None:
        return default if (gated if gated is not None else gate in names or side == "chat") else None

    published = BTAdapterConfig()
    middle, output = scale("balance2", published.middle_scale), scale("balance1", published.output_scale)
    return replace(base, middle_scale=middle, output_scale=output)


def without_last_layer(weights: AdapterWeights) -> AdapterWeights:
    """The same branch of K - 1 layers."""
    last = weights.config.num_layers - 1
    state = {
        name: tensor
        for name, tensor in weights.state.items()
        if not name.startswith((f"spatial.{last}.", f"temporal.{last}."))
    }
    return replace(weights, config=replace(weights.config, num_layers=last), state=state)


def load_adapter(adapter: "BTAdapter", weights: AdapterWeights, tower: "ClipVisionTower") -> None:
    """Fill a branch built from `weights.config`; layers that the file lacks start fresh from the trunk.

    Raises:
        CheckpointError: tensors that are missing, unexpected or wrongly shaped.
    """
    adapter.init_from_trunk(tower)
    stored = _count_layers(weights.where, weights.state)
    lacking = range(stored, adapter.config.num_layers)
    fresh = tuple(f"{kind}.{k}." for kind in ("spatial", "temporal") for k in lacking)
    found = {name: tuple(tensor.shape) for name, tensor in weights.state.items()}
    _check(weights.where, adapter, found, fresh)
    _fill(adapter, weights.state)


def _count_layers(where: str, names: Collection[str]) -> int:
    kinds = [
        {int(name.split(".")[1]) for name in names if name.startswith(kind)}
        for kind in ("spatial.", "temporal.")
    ]
    if kinds[0] != kinds[1] or kinds[0] != set(range(len(kinds[0]))) or not kinds[0]:
        held = f"spatial {sorted(kinds[0])}, temporal {sorted(kinds[1])}"
        raise CheckpointError(f"{where}: branch layers must be numbered 0, 1, … in pairs; it holds {held}")
    return len(kinds[0])


def _sources(weights: Weights, keys: KeyMap, part: str) -> dict[str, Stored]:
    """Parameter names of one part, each with its place in the file."""
    unknown = [key for key in weights if keys.why_dropped(key) is None and not keys.stored(key)]
    if unknown:
        raise CheckpointError(f"{weights.where}: unexpected {', '.join(unknown)} in a {keys.name}")
    prefix = f"{part}."
    every = (item for key in weights for item in keys.stored(key).items())
    return {name.removeprefix(prefix): stored for name, stored in every if name.startswith(prefix)}


def _read(weights: Weights, sources: Mapping[str, Stored]) -> "dict[str, Tensor]":
    """The tensors themselves; one that several of ours share is read once at a time."""
    return {name: stored.take(weights[stored.key]) for name, stored in sources.items()}


def _lacking_key_biases(sources: Collection[str]) -> dict[str, str]:
    """Key biases that a fused layout does not store, which are zero, each with its query bias (section 7)."""
    queries = {name: name.replace("q_proj", "k_proj") for name in sources if name.endswith("q_proj.bias")}
    return {key: query for query, key in queries.items() if key not in sources}


def _check(where: str, module: "nn.Module", found: Mapping[str, Shape], may_miss: tuple[str, ...]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    missing = [name for name in expected if name not in found and not name.startswith(may_miss)]
    unexpected = [name for name in found if name not in expected]
    wrong = [
        f"{name} (expected {_times(shape)}, found {_times(found[name])})"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong))
    problems = [f"{kind} {', '.join(names)}" for kind, names in kinds if names]
    if problems:
        raise CheckpointError(f"{where}: {'; '.join(problems)} for {type(module).__name__}")


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _fill(module: "nn.Module", state: "Mapping[str, Tensor]") -> None:
    """Copies into a module; one on the meta device takes the tensors themselves.

    What may be absent, and is, becomes nan there: whoever reads it notices.
    """
    mine = module.state_dict()
    on_meta = any(tensor.is_meta for tensor in mine.values())
    device = next((tensor.device for tensor in state.values()), None)
    absent = {
        name: torch.full(tensor.shape, torch.nan, device=device)
        for name, tensor in mine.items()
        if tensor.is_meta and name not in state
    }
    module.load_state_dict({**state, **absent}, strict=False, assign=on_meta)
