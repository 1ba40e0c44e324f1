"""Projector and Q-Former: how video features become soft tokens; LLaVA has the projector alone.

P patches, T frames, K = P + 1 (`clip`) or T (P + 1) pooled tokens, D vision width, Q queries, H LLM width.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange

from bt_model.backends.parts.projector import draw, load_projector
from bt_model.backends.parts.qformer import QFormer, QFormerConfig
from bt_model.checkpoints.json_files import section
from bt_model.checkpoints.load import load_part
from bt_model.checkpoints.weights import Checkpoint
from bt_model.errors import CheckpointError, UnknownNameError
from bt_model.types import ENTRIES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bt_model.backends.base import BackendFiles

_HEAD_DIM = 64  # of every published Q-Former


@dataclass(frozen=True, slots=True)
class Bridge:
    """A projector, behind a Q-Former where there is one.

    `entry`, one of ENTRIES, says how features enter the Q-Former (docs/published-models.md, "Q-Former").
    """

    projector: "nn.Module"
    qformer: QFormer | None = None
    entry: str = "clip"
    tokens_per_frame: int = 0

    def soft(self, tokens: "Tensor", text: "Tensor | None" = None) -> "Tensor":
        """Pooled tokens (K, D), and the instruction's ids (n,), to soft tokens.

        -> (K, H) without a Q-Former, else (Q, H), or (Q T, H) for all frames.
        """
        weight = next(self.projector.parameters())
        video = tokens.to(weight.device, weight.dtype)
        if self.qformer is None:
            return self.projector(video)
        video = video[None]
        if self.entry in ("frames", "all_frames"):
            video = rearrange(video, "1 (t n) d -> t n d", n=self.tokens_per_frame)
        ids = None if text is None else text.to(weight.device)[None]
        soft = self.projector(self.qformer(video, ids))
        return soft.mean(dim=0) if self.entry == "frames" else soft.flatten(0, 1)


def load_bridge(files: "BackendFiles", llm_width: int) -> Bridge:
    """The Q-Former and the projector of a model file.

    Raises:
        CheckpointError: no Q-Former is named, or tensors are missing, unexpected or wrongly shaped.
        UnknownNameError: an entry that does not exist.
    """
    if files.entry not in ENTRIES:
        raise UnknownNameError(f"entry is {files.entry!r}; allowed: {', '.join(ENTRIES)}", param="entry")
    checkpoint = files.needed("qformer")
    config = qformer_config(checkpoint)
    if "qformer_in" in files.untrained:
        config = replace(config, video_dim=files.video_dim)
    with torch.device("meta"):
        qformer = QFormer(config)
    drawn = qformer.reading() if "qformer_in" in files.untrained else ()
    load_part(qformer, checkpoint, "qformer", without=drawn)
    draw(weight for name, weight in qformer.named_parameters() if name in drawn)
    qformer = qformer.to(files.device, files.dtype).eval().requires_grad_(requires_grad=False)
    projector = load_projector(files, config.width, llm_width)
    return Bridge(projector, qformer, files.entry, files.num_video_tokens)


def qformer_config(checkpoint: Checkpoint) -> QFormerConfig:
    """From the shapes of the tensors, and from a config.json beside them for what shapes do not say.

    Raises:
        CheckpointError: the file holds no Q-Former.
    """
    shapes, where = checkpoint.shapes("qformer"), checkpoint.path
    missing = [name for name in ("query_tokens", "ln_vision.weight", "norm.weight") if name not in shapes]
    if missing:
        raise CheckpointError(f"{where}: missing {', '.join(missing)} of a Q-Former")
    layers = {int(m[1]) for name in shapes if (m := re.match(r"layers\.(\d+)\.", name))}
    crossing = sorted(layer for layer in layers if f"layers.{layer}.cross_attn.q_proj.weight" in shapes)
    settings = _settings(checkpoint)
    num_queries, width = shapes["query_tokens"][-2:]
    num_heads = settings.get("num_attention_heads", max(1, width // _HEAD_DIM))
    if type(num_heads) is not int or width % num_heads:
        raise CheckpointError(f"{where}: num_attention_heads is {num_heads}; allowed: what divides {width}")
    return QFormerConfig(
        width=width,
        num_layers=len(layers),
        num_heads=num_heads,
        mlp_width=shapes["layers.0.query_mlp.fc1.bias"][0],
        video_dim=shapes["ln_vision.weight"][0],
        num_queries=num_queries,
        vocab_size=shapes.get("word_embedding.weight", (0,))[0],
        max_positions=shapes.get("position_embedding.weight", (0,))[0],
        cross_every=crossing[1] if len(crossing) > 1 else len(layers),
        eps=settings.get("layer_norm_eps", 1e-12),
        video_eps=settings.get("video_eps", 1e-5),
    )


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Settings in Hugging Face's config.json; LAVIS's files have none, and 1e-5 as epsilon of ln_vision."""
    path, config = checkpoint.path, checkpoint.config
    if config is None or "qformer_config" not in config:
        return {}
    qformer, vision = (section(path, config, name) for name in ("qformer_config", "vision_config"))
    settings = {**qformer, "video_eps": vision.get("layer_norm_eps", 1e-6)}
    for name in ("num_attention_heads", "layer_norm_eps", "video_eps"):
        value = settings.get(name, 1)
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise CheckpointError(f"{path}/config.json: {name} is {value!r}; allowed: a number above 0")
    return settings
