"""Layouts of EVA-CLIP towers and branches (docs/published-models.md, "EVA-CLIP")."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from bt_model.checkpoints.layouts.key_map import KeyMap, Pairs, renamed, under

_VISION: Pairs = (
    ("cls_token", "vision.class_embedding"),
    ("pos_embed", "vision.position_embedding.weight"),
    ("patch_embed.proj.", "vision.patch_embedding."),
    ("blocks.", "vision.layers."),
    ("norm.", "vision.post_layernorm."),
    ("head.", "vision.visual_projection."),
)
_ADAPTER: Pairs = (
    ("btadapter_cls", "adapter.cls_token"),
    ("btadapter_position.", "adapter.time_embed."),
    ("btadapter_S.", "adapter.spatial."),
    ("btadapter_T.", "adapter.temporal."),
)
_TEXT: Pairs = (
    ("token_embedding.", "text.token_embedding."),
    ("positional_embedding", "text.position_embedding.weight"),
    ("transformer.resblocks.", "text.layers."),
    ("ln_final.", "text.final_layer_norm."),
    ("text_projection", "text.text_projection.weight"),
)
_BLOCK: Pairs = (
    ("norm1.", "layer_norm1."),
    ("norm2.", "layer_norm2."),
    ("attn.qkv.", "self_attn.qkv."),
    ("attn.q_bias", "self_attn.q_bias"),
    ("attn.v_bias", "self_attn.v_bias"),
    ("attn.proj.", "self_attn.out_proj."),
)
_TEXT_BLOCK: Pairs = (
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("attn.in_proj_weight", "self_attn.qkv.weight"),
    ("attn.in_proj_bias", "self_attn.qkv.bias"),
    ("attn.out_proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)

# The tower inside Hugging Face's BLIP-2 and InstructBLIP; its post_layernorm belongs to the Q-Former.
HF_VISION: Pairs = (
    ("vision_model.embeddings.class_embedding", "vision.class_embedding"),
    ("vision_model.embeddings.position_embedding", "vision.position_embedding.weight"),
    ("vision_model.embeddings.patch_embedding.", "vision.patch_embedding."),
    ("vision_model.encoder.layers.", "vision.layers."),
)
HF_BLOCK: Pairs = (("self_attn.qkv.", "self_attn.qkv."), ("self_attn.projection.", "self_attn.out_proj."))
LEADING = {"adapter.cls_token": 2, "vision.class_embedding": 2, "vision.position_embedding.weight": 1}

EVA = KeyMap(
    "EVA-CLIP tower",
    (*_VISION, *_ADAPTER),
    inner={"vision": _BLOCK, "adapter": _BLOCK, "text": _TEXT_BLOCK},
    leading=LEADING,
    transposed=frozenset({"text.text_projection.weight"}),
)

EVA_RETRIEVAL = replace(
    EVA,
    name="EVA retrieval checkpoint",
    pairs=(*under("backbone.", EVA.pairs), *under("text_backbone.", _TEXT), ("extra_proj.", "extra_proj.")),
)

EVA_CLIP = replace(
    EVA,
    name="EVA-CLIP",
    pairs=(*under("visual.", _VISION), *under("text.", _TEXT), *_TEXT),
    dropped=(
        ("logit_scale", "the contrastive scale of CLIP's own training"),
        ("*attn_mask", "a constant buffer"),
    ),
)

_TEXT_KEYS = "text_backbone.transformer.resblocks."
_BRANCH_KEY = re.compile(r"(.*\.)?(btadapter|BTAdapter)_(cls|position\.weight|[ST]\.\d+\..+)")
_TOWER_KEY = re.compile(r"(.*\.)?blocks\.(\d{1,6})\.attn\.qkv\.weight")


def detect_eva(keys: Collection[str], num_layers: int | None = None) -> KeyMap | None:
    """The EVA layout of these tensor names, whatever their prefix in a larger model, or None.

    A file may hold more blocks than `num_layers`, the number in the tower to be filled: image chat models use
    the first 39 of 40 blocks, and no final norm.
    """
    branch = next((match for key in keys if (match := _BRANCH_KEY.fullmatch(key))), None)
    blocks = [match for key in keys if (match := _TOWER_KEY.fullmatch(key))]
    if branch is None and not blocks:
        return next((EVA_RETRIEVAL for key in keys if key.startswith(_TEXT_KEYS)), None)
    found = branch or blocks[0]
    prefix = found[1] or ""
    known = {"backbone.": EVA_RETRIEVAL, "visual.": EVA_CLIP}.get(prefix) or _inside(prefix)
    if branch is not None:
        known = replace(known, pairs=renamed(known.pairs, branch[2]))
    stored = sorted({int(match[2]) for match in blocks})
    if num_layers is not None and (behind := [number for number in stored if number >= num_layers]):
        known = replace(known, dropped=(*known.dropped, *_behind(prefix, behind, num_layers)))
    return known


def _inside(prefix: str) -> KeyMap:
    return replace(EVA, pairs=under(prefix, EVA.pairs), only_under=prefix) if prefix else EVA


def _behind(prefix: str, layers: Sequence[int], num_layers: int) -> Pairs:
    why = f"behind the {num_layers} blocks that this tower uses"
    names = (*(f"blocks.{index}.*" for index in layers), "norm.*", "head.*")
    return tuple((prefix + name, why) for name in names)
