"""Layouts of LLaVA v1 and v1.5, and of towers within its checkpoints (docs/published-models.md)."""

from dataclasses import replace

from bt_model.checkpoints.layouts.clip import HF_VISION
from bt_model.checkpoints.layouts.key_map import BUFFER, KeyMap, Pairs, under
from bt_model.checkpoints.layouts.qformer import HF_LLM

TOWER = "model.vision_tower."

_CHAT_MODEL: Pairs = (
    ("model.mm_projector.", "projector."),
    ("model.embed_tokens.", "lm.model.embed_tokens."),
    ("model.layers.", "lm.model.layers."),
    ("model.norm.", "lm.model.norm."),
    ("lm_head.", "lm.lm_head."),
)
_MLP_PROJECTOR: Pairs = (("linear_1.", "projector.0."), ("linear_2.", "projector.2."))

LLAVA = KeyMap(
    "LLaVA",
    (
        *under("model.vision_tower.vision_tower.vision_model.", HF_VISION),
        *_CHAT_MODEL,
    ),
    dropped=(("*.rotary_emb.inv_freq", BUFFER), ("*.embeddings.position_ids", BUFFER)),
)

HF_LLAVA = KeyMap(
    "Hugging Face LLaVA",
    (
        *under("vision_tower.vision_model.", HF_VISION),
        *under("vision_tower.", HF_VISION),
        *under("multi_modal_projector.", _MLP_PROJECTOR),
        *HF_LLM,
    ),
    dropped=(
        ("*.position_ids", BUFFER),
        ("*.rotary_emb.inv_freq", BUFFER),
        ("*image_newline", "a row marker of models that tile their picture"),
    ),
)

HF_LLAVA_IN_MEMORY = replace(
    HF_LLAVA,
    name="Hugging Face LLaVA, as the library names it in memory",
    pairs=(
        *under("model.vision_tower.vision_model.", HF_VISION),
        *under("model.vision_tower.", HF_VISION),
        *under("model.multi_modal_projector.", _MLP_PROJECTOR),
        ("model.language_model.", "lm.model."),
        ("lm_head.", "lm.lm_head."),
    ),
)


def in_chat_model(keys: KeyMap) -> KeyMap:
    """A tower's layout with the prefix that it has in a chat model's checkpoint."""
    return replace(
        keys,
        pairs=(*under(TOWER, keys.pairs), *_CHAT_MODEL),
        dropped=(*((TOWER + pattern, why) for pattern, why in keys.dropped), *LLAVA.dropped),
    )
