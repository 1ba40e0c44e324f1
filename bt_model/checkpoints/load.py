"""Published weights into our modules: strict, shapes are checked before data is read, one error lists all.

D width, K branch layers, L trunk layers. What files hold: docs/published-models.md, "BT-Adapter files".
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from bt_model.checkpoints.layouts.key_map import Shape
from bt_model.checkpoints.weights import Checkpoint
from bt_model.config import BTAdapterConfig
from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bt_model.vision.bt_adapter import BTAdapter
    from bt_model.vision.clip import ClipVisionTower

Side: TypeAlias = Literal["chat", "retrieval"]

# The chat path ends before these modules, so its checkpoints may lack them.
CHAT_MAY_MISS = ("visual_projection.", "post_layernorm.")


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """A branch in a file: `state` by our names; layers of `config` that it lacks stay as initialised."""

    where: str
    config: BTAdapterConfig
    state: "dict[str, Tensor]"


def refuse_more_layers(checkpoint: Checkpoint, part: str, prefix: str, num_layers: int) -> None:
    """Called before a module of that many layers is built: a config.json may contain any number.

    Raises:
        CheckpointError: the checkpoint holds fewer layers, whose names begin with `prefix`.
    """
    held = checkpoint.count_layers(part, prefix)
    if num_layers > held:
        where = checkpoint.path / "config.json"
        raise CheckpointError(
            f"{where}: num_hidden_layers is {num_layers}; allowed: up to {held}, which its weights hold"
        )


def load_vision(tower: "ClipVisionTower", checkpoint: Checkpoint, *, may_miss: tuple[str, ...] = ()) -> None:
    """Fill the trunk; parameters whose names start with one of `may_miss` may be absent and stay as they are.

    Raises:
        CheckpointError: tensors that are missing, unexpected, wrongly shaped, or no finite numbers.
    """
    load_part(tower, checkpoint.beside(tower.config.num_layers), "vision", may_miss=may_miss)


def load_part(
    module: "nn.Module",
    checkpoint: Checkpoint,
    part: str,
    *,
    may_miss: tuple[str, ...] = (),
    without: Collection[str] = (),
) -> None:
    """Fill a module with one part (layouts/key_map.py, PARTS) of a checkpoint.

    Tensors `without` are not read, whatever their shape. They become NaN, like absent ones of `may_miss`.

    Raises:
        CheckpointError: tensors that are missing, unexpected, wrongly shaped, or no finite numbers.
    """
    found = {name: shape for name, shape in checkpoint.shapes(part).items() if name not in without}
    absent = _absent_key_biases(found) if checkpoint.layout.is_fused(part) else {}
    biases = {name: found[query] for name, query in absent.items()}
    _check(checkpoint.where, module, found | biases, (*may_miss, *without))
    state = checkpoint.read(part, found)
    _fill(module, state | {name: torch.zeros_like(state[query]) for name, query in absent.items()})


def read_adapter(checkpoint: Checkpoint, *, side: Side = "chat", gated: bool | None = None) -> AdapterWeights:
    """The branch in a checkpoint: its configuration, from metadata or shapes, and its tensors.

    Metadata, where present, decides the gates. Without it, absent gate vectors become zeros (gates of one
    half) on the chat side and plain sums on the retrieval side. `gated` overrides both. Files of chat
    training lack the last branch layer, so K is one more than they hold.

    Raises:
        CheckpointError: no branch, layers that are not numbered from 0, or no finite numbers.
    """
    names = checkpoint.parts.get("adapter", {})
    if "cls_token" not in names or "time_embed.weight" not in names:
        raise CheckpointError(f"{checkpoint.where}: missing adapter.cls_token or adapter.time_embed.weight")
    num_layers = _count_layers(checkpoint.where, names) + int(checkpoint.layout.ends_early)
    is_fused = checkpoint.layout.is_fused("adapter")
    config = _branch_config(checkpoint, "retrieval" if is_fused else side, gated)
    scales = {"balance1": config.output_gate, "balance2": config.middle_gate}
    unused = {gate for gate, scale in scales.items() if scale is None}
    state = checkpoint.read("adapter", [name for name in names if name not in unused])
    if is_fused:
        state |= {name: torch.zeros_like(state[query]) for name, query in _absent_key_biases(names).items()}
    for gate in scales.keys() - unused:
        state.setdefault(gate, torch.zeros_like(state["cls_token"]))
    config = replace(config, num_layers=num_layers, max_frames=len(state["time_embed.weight"]))
    return AdapterWeights(checkpoint.where, config, state)


def _branch_config(checkpoint: Checkpoint, side: Side, gated: bool | None) -> BTAdapterConfig:
    """The branch's configuration, its gates as in `read_adapter` (a published EVA branch has none)."""
    published, temporal = BTAdapterConfig(), checkpoint.temporal
    if temporal is not None and gated is None:
        return temporal.branch
    names = checkpoint.parts["adapter"]

    def scale(gate: str, default: float | None) -> float | None:
        return default if (gated if gated is not None else gate in names or side == "chat") else None

    middle, output = scale("balance2", published.middle_scale), scale("balance1", published.output_scale)
    base = published if temporal is None else temporal.branch
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
    """Fill a branch built from `weights.config`; layers that the file lacks are initialised from the trunk.

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


def _absent_key_biases(names: Collection[str]) -> dict[str, str]:
    """Key biases that a fused layout leaves out because they are zero, each with its query bias."""
    queries = {name: name.replace("q_proj", "k_proj") for name in names if name.endswith("q_proj.bias")}
    return {key: query for query, key in queries.items() if key not in names}


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
    """Copies tensors into a module; a module on the meta device takes the tensors themselves.

    There, optional parameters that are absent become NaN, so that any use of them shows.
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
