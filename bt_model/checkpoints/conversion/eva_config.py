"""The configuration of an EVA tower from its tensors' shapes: published files have no config.json."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bt_model.checkpoints.layouts.key_map import Shape
from bt_model.errors import CheckpointError

_PATCHES = "patch_embed.proj.weight"
_HEAD_DIM = 88  # of EVA-CLIP-g


def eva_config(source: Path, shapes: Mapping[str, Shape], used: int | None) -> dict[str, Any] | None:
    """A config.json for a file's tower, of which `used` blocks (None: all) are to be read; None without one.

    Raises:
        CheckpointError: a tensor that the sizes are read from is missing, or fewer blocks than `used`.
    """
    key = next((name for name in shapes if name.endswith(_PATCHES)), None)
    if key is None:
        return None
    prefix = key.removesuffix(_PATCHES)
    needed = {_PATCHES: 4, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2}
    wrong = [name for name, axes in needed.items() if len(shapes.get(prefix + name, ())) != axes]
    if wrong:
        found = ", ".join(f"{prefix}{name} {shapes.get(prefix + name, 'missing')}" for name in wrong)
        raise CheckpointError(f"{source}: not an EVA tower's sizes ({found})")
    width, _, patch, _ = shapes[key]
    stored = {int(m[1]) for name in shapes if (m := re.match(rf"{re.escape(prefix)}blocks\.(\d+)\.", name))}
    if used is not None and not 1 <= used <= len(stored):
        raise CheckpointError(f"{source}: blocks is {used}; allowed: 1 to {len(stored)}, which it holds")
    positions = shapes[f"{prefix}pos_embed"][1] - 1
    head = shapes.get(f"{prefix}head.weight", (width,))
    vision = {
        "model_type": "eva_clip_vision_model",
        "hidden_size": width,
        "num_hidden_layers": used or len(stored),
        "num_attention_heads": max(1, width // _HEAD_DIM),
        "intermediate_size": shapes[f"{prefix}blocks.0.mlp.fc1.weight"][0],
        "image_size": round(max(positions, 0) ** 0.5) * patch,
        "patch_size": patch,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    }
    joint = head[0] if head else width
    return {"model_type": "eva_clip", "source": source.name, "projection_dim": joint, "vision_config": vision}
