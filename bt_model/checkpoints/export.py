"""Our modules' tensors under the names of a published layout, in memory and in files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from bt_model.checkpoints.layouts.clip import OWN
from bt_model.errors import InvalidValueError

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.checkpoints.layouts.key_map import KeyMap

_QUERY = re.compile(r"(.+\.)q_proj\.(weight|bias)")


def published(parts: "Mapping[str, Mapping[str, Tensor]]", keys: "KeyMap" = OWN) -> "dict[str, Tensor]":
    """State dicts by part (checkpoints.keys.PARTS) -> one flat dict in the names and shapes of `keys`.

    Raises:
        InvalidValueError: a tensor that the layout does not hold.
    """
    flat: dict[str, Tensor] = {}
    for part, state in parts.items():
        joined = _joined(state, part, keys) if keys.is_fused(part) else dict(state)
        for name, tensor in joined.items():
            ours = f"{part}.{name}"
            key = keys.published(ours)
            if key is None:
                raise InvalidValueError(f"{ours} has no name in the layout {keys.name!r}", param="keys")
            turned = tensor.t() if ours in keys.transposed else tensor
            leading = (1,) * keys.leading.get(ours, 0)
            flat[key] = turned.reshape(*leading, *turned.shape).detach().contiguous()
    return flat


def save_parts(
    path: Path,
    parts: "Mapping[str, Mapping[str, Tensor]]",
    keys: "KeyMap" = OWN,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """State dicts by part into one safetensors file, which appears complete or not at all.

    Raises:
        InvalidValueError: a tensor that the layout does not hold.
    """
    part = path.with_name(f".{path.name}.part")
    save_file(published(parts, keys), part, metadata={"format": "pt", **(metadata or {})})
    part.chmod(0o644)  # the library writes 0600, which a container's user could not read
    part.replace(path)


def _joined(state: "Mapping[str, Tensor]", part: str, keys: "KeyMap") -> "dict[str, Tensor]":
    """Queries, keys and values in one tensor each, as the layout stores them.

    A key bias shifts all scores of a query alike, so a layout without one loses nothing.
    """
    joined: dict[str, Tensor] = {}
    for name, tensor in state.items():
        query = _QUERY.fullmatch(name)
        if query is None:
            if not re.search(r"\.[kv]_proj\.", name):
                joined[name] = tensor
            continue
        prefix, kind = query.groups()
        thirds = [state[f"{prefix}{third}_proj.{kind}"] for third in "qkv"]
        if kind == "bias" and keys.has_biases_apart(part):
            joined |= {f"{prefix}q_bias": thirds[0], f"{prefix}v_bias": thirds[2]}
        else:
            joined[f"{prefix}qkv.{kind}"] = torch.cat(thirds)
    return joined
