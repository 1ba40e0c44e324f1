"""Layouts of MiniGPT-4 and InstructBLIP (docs/published-models.md, "Chat models")."""

from bt_model.checkpoints.layouts import eva
from bt_model.checkpoints.layouts.key_map import BUFFER, KeyMap, Pairs, under

_ATTENTION: Pairs = (("query.", "q_proj."), ("key.", "k_proj."), ("value.", "v_proj."))


def _qformer_layer(inside: str) -> Pairs:
    """The names in a Q-Former layer; `inside` is the submodule with an attention's three projections."""
    return (
        *((f"crossattention.{inside}.{old}", f"cross_attn.{new}") for old, new in _ATTENTION),
        ("crossattention.output.dense.", "cross_attn.out_proj."),
        ("crossattention.output.LayerNorm.", "cross_norm."),
        *((f"attention.{inside}.{old}", f"self_attn.{new}") for old, new in _ATTENTION),
        ("attention.output.dense.", "self_attn.out_proj."),
        ("attention.output.LayerNorm.", "self_norm."),
        ("intermediate_query.dense.", "query_mlp.fc1."),
        ("output_query.dense.", "query_mlp.fc2."),
        ("output_query.LayerNorm.", "query_norm."),
        ("intermediate.dense.", "text_mlp.fc1."),
        ("output.dense.", "text_mlp.fc2."),
        ("output.LayerNorm.", "text_norm."),
    )


_EMBEDDINGS: Pairs = (
    ("embeddings.word_embeddings.", "qformer.word_embedding."),
    ("embeddings.position_embeddings.", "qformer.position_embedding."),
)
_LEADING = {**eva.LEADING, "qformer.query_tokens": 1}
HF_LLM: Pairs = (
    ("language_model.model.", "lm.model."),
    ("language_model.lm_head.", "lm.lm_head."),
)
LAVIS = KeyMap(
    "LAVIS Q-Former",
    (
        ("query_tokens", "qformer.query_tokens"),
        ("ln_vision.", "qformer.ln_vision."),
        ("Qformer.bert.embeddings.LayerNorm.", "qformer.norm."),
        *under("Qformer.bert.", _EMBEDDINGS),
        ("Qformer.bert.encoder.layer.", "qformer.layers."),
        ("llm_proj.", "projector."),
        ("llama_proj.", "projector."),
        *under("visual_encoder.", eva.EVA.pairs),
    ),
    inner={**eva.EVA.inner, "qformer": _qformer_layer("self")},
    leading=_LEADING,
    dropped=(
        ("*.position_ids", BUFFER),
        ("Qformer.cls.*", "BERT's word prediction, of pre-training"),
        ("t5_proj.*", "the bridge to another language model"),
        ("opt_proj.*", "the bridge to another language model"),
        ("temp", "the contrastive scale of pre-training"),
        ("vision_proj.*", "a head of pre-training"),
        ("text_proj.*", "a head of pre-training"),
        ("itm_head.*", "a head of pre-training"),
        ("*.rotary_emb.inv_freq", BUFFER),
    ),
)

HF_INSTRUCTBLIP = KeyMap(
    "Hugging Face InstructBLIP",
    (
        *eva.HF_VISION,
        ("vision_model.post_layernorm.", "qformer.ln_vision."),
        ("query_tokens", "qformer.query_tokens"),
        ("qformer.embeddings.layernorm.", "qformer.norm."),
        ("qformer.layernorm.", "qformer.norm."),
        *under("qformer.", _EMBEDDINGS),
        ("qformer.encoder.layer.", "qformer.layers."),
        ("language_projection.", "projector."),
        *HF_LLM,
    ),
    inner={"vision": eva.HF_BLOCK, "qformer": _qformer_layer("attention")},
    leading=_LEADING,
    dropped=(("*.position_ids", BUFFER), ("*.rotary_emb.inv_freq", BUFFER)),
)
