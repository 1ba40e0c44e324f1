"""Layouts of CLIP towers and branches (docs/published-models.md, "BT-Adapter files")."""

from bt_model.checkpoints.layouts.key_map import BUFFER, PARTS, KeyMap, Pairs, renamed, under

_VISION: Pairs = tuple(
    (name, f"vision.{name}")
    for name in (
        "class_embedding",
        "patch_embedding.",
        "position_embedding.",
        "pre_layrnorm.",
        "layers.",
        "post_layernorm.",
        "visual_projection.",
    )
)
_ADAPTER: Pairs = (
    ("btadapter_cls_token", "adapter.cls_token"),
    ("btadapter_time_embed.", "adapter.time_embed."),
    ("btadapter_S_layers.", "adapter.spatial."),
    ("btadapter_T_layers.", "adapter.temporal."),
    ("balance1", "adapter.balance1"),
    ("balance2", "adapter.balance2"),
)
HF_VISION: Pairs = (
    ("embeddings.class_embedding", "vision.class_embedding"),
    ("embeddings.patch_embedding.", "vision.patch_embedding."),
    ("embeddings.position_embedding.", "vision.position_embedding."),
    ("pre_layrnorm.", "vision.pre_layrnorm."),
    ("encoder.layers.", "vision.layers."),
    ("post_layernorm.", "vision.post_layernorm."),
)
_HF_TEXT: Pairs = (
    ("text_model.embeddings.token_embedding.", "text.token_embedding."),
    ("text_model.embeddings.position_embedding.", "text.position_embedding."),
    ("text_model.encoder.layers.", "text.layers."),
    ("text_model.final_layer_norm.", "text.final_layer_norm."),
    ("text_projection.", "text.text_projection."),
)
OWN = KeyMap("own", tuple((f"{part}.", f"{part}.") for part in PARTS), leading={})

HF_CLIP = KeyMap(
    "Hugging Face CLIP",
    (
        *under("vision_model.", HF_VISION),
        ("visual_projection.", "vision.visual_projection."),
        *_HF_TEXT,
    ),
    dropped=(
        ("*.embeddings.position_ids", BUFFER),
        ("logit_scale", "the contrastive scale of CLIP's own training"),
    ),
)

HF_CLIP_VISION = KeyMap(
    "Hugging Face CLIP vision tower", HF_VISION, dropped=(("embeddings.position_ids", BUFFER),)
)

RETRIEVAL = KeyMap(
    "retrieval checkpoint",
    (
        *under("backbone.", (*_VISION, *_ADAPTER)),
        *under("text_backbone.", _HF_TEXT),
        ("extra_proj.", "extra_proj."),
    ),
    dropped=(("text_backbone.text_model.embeddings.position_ids", BUFFER),),
)

LEGACY = KeyMap(
    "retrieval checkpoint, timesFPN spelling",
    renamed(RETRIEVAL.pairs, "timesFPN"),
    dropped=(
        *RETRIEVAL.dropped,
        ("backbone.timesFPN_pos_embed.*", "a position table that the branch never read"),
    ),
)

CHAT = KeyMap("chat inference tower", (*_VISION, *_ADAPTER))

BRANCH = KeyMap("fine-tuned branch", _ADAPTER, ends_early=True)

CHAT_TRAINING = KeyMap("chat training tower", (*_VISION, *_ADAPTER), ends_early=True)
