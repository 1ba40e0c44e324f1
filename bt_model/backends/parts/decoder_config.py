"""Which LLMs our decoder computes: a config.json's fields, read one by one.

The rule: a field is read, or known to change nothing, or stands at the value at which it changes nothing.
Everything else is refused by name, because a variant computed as if it were plain gives fluent nonsense.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bt_model.config import (
    LinearRope,
    Llama3Rope,
    LlamaConfig,
    read_count,
    read_heads,
    read_positive,
)
from bt_model.errors import InvalidValueError, require
from bt_model.generation.kv_cache import CacheSizes


class OtherDecoderError(InvalidValueError):
    """A decoder, or a variant of one, that is not ours."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a model type computes.

    `defaults` are its library's, for fields that a config.json lacks; `nested` those that only a nested one
    may lack. `fields` are those that this type alone reads.
    """

    nested: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    fields: frozenset[str] = frozenset()
    has_qkv_bias: bool = False


_SEVEN_BILLION: dict[str, Any] = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008,
    "vocab_size": 32000, "max_position_embeddings": 2048,
}  # fmt: skip
_LLAMA = _Kind(_SEVEN_BILLION, fields=frozenset({"attention_bias", "mlp_bias"}))
_MISTRAL = _Kind(
    {**_SEVEN_BILLION, "intermediate_size": 14336, "max_position_embeddings": 131072},
    {"num_key_value_heads": 8, "sliding_window": 4096},
    frozenset({"sliding_window"}),
)
_QWEN2 = _Kind(
    {**_SEVEN_BILLION, "intermediate_size": 22016, "max_position_embeddings": 32768, "vocab_size": 151936},
    {"num_key_value_heads": 32, "sliding_window": 4096},
    frozenset({"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"}),
    has_qkv_bias=True,
)
_KINDS = {  # chat models name a type of their own in the LLM's config.json; the oldest folders name none
    "llama": _LLAMA, "llava": _LLAMA, "llava_llama": _LLAMA, "VideoChatGPT": _LLAMA,
    "mistral": _MISTRAL, "llava_mistral": _MISTRAL,
    "qwen2": _QWEN2, "llava_qwen": _QWEN2, "llava_qwen2": _QWEN2,
}  # fmt: skip
_READ = frozenset({
    "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim",
    "num_key_value_heads", "intermediate_size", "max_position_embeddings", "rms_norm_eps", "rope_theta",
    "rope_parameters", "rope_scaling", "hidden_act", "tie_word_embeddings",
})  # fmt: skip
# Names, training, and how answers are drawn: nothing that a decoder computes with.
_HARMLESS = frozenset({
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal", "_commit_hash",
    "_flash_attn_2_enabled", "_model_name_or_path", "_name_or_path", "architectures", "attention_dropout",
    "bos_token_id", "dtype",
    "eos_token_id", "finetuning_task", "id2label", "initializer_range", "is_llama_config", "label2id",
    "max_sequence_length", "num_labels", "output_attentions", "output_hidden_states", "pad_token",
    "pad_token_id", "prefix", "pretraining_tp", "problem_type", "return_dict", "sep_image_conv_front",
    "sep_token_id", "task_specific_params", "tf_legacy_loss", "tokenizer_class",
    "tokenizer_model_max_length", "tokenizer_padding_side", "torch_dtype", "torchscript",
    "transformers.js_config", "transformers_version", "unk_token_id", "unsloth_fixed", "unsloth_version",
    "use_bfloat16", "use_cache", "use_mm_proj",
    "bad_words_ids", "begin_suppress_tokens", "cls_token_id", "decoder_start_token_id", "diversity_penalty",
    "do_sample", "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty",
    "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length", "max_new_tokens",
    "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_scores", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate",
    "suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
})  # fmt: skip
_OF_VISION = ("mm_", "image_", "vision_", "video_", "tune_", "freeze_", "unfreeze_")  # a chat model's own
_NEUTRAL: dict[str, Any] = {  # where null is not what these say when they change nothing
    "add_cross_attention": False, "attention_bias": False, "chunk_size_feed_forward": 0, "is_decoder": False,
    "is_encoder_decoder": False, "mlp_bias": False, "partial_rotary_factor": 1, "rope_interleaved": False,
    "tie_encoder_decoder": False, "use_sliding_window": False,
}  # fmt: skip
_ROPE_FIELDS = ("rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor",
                "original_max_position_embeddings")  # fmt: skip


def read_decoder_config(config: Mapping[str, Any], *, is_nested: bool = False) -> LlamaConfig:
    """From an LLM's config.json, or from a text_config in one, which leaves out its library's defaults.

    Raises:
        OtherDecoderError: a variant that our decoder does not compute.
        InvalidValueError: an invalid size.
        KeyError: a field that is missing.
    """
    kind = _kind(config.get("model_type") or "llama")
    _refuse_unknown(config, kind)
    config = {**kind.defaults, **(kind.nested if is_nested else {}), **config}
    width = read_count(config, "hidden_size")
    head_width = None
    if config.get("head_dim") is not None:
        head_width, heads = read_count(config, "head_dim"), read_count(config, "num_attention_heads")
    else:
        heads = read_heads(config, width)
    head_dim = head_width or width // heads
    require(head_dim % 2 == 0, "head_dim", head_dim, "an even number")
    _require_computed("hidden_act", config.get("hidden_act", "silu"), "silu")
    shared = config.get("num_key_value_heads")
    shared = heads if shared is None else shared
    ok = type(shared) is int and shared > 0 and heads % shared == 0
    require(ok, "num_key_value_heads", shared, f"what divides num_attention_heads, {heads}")
    context = read_count(config, "max_position_embeddings")
    rope = _Rope.read(config, context)
    has_bias = kind is _LLAMA and _switch(config, "attention_bias")
    return LlamaConfig(
        vocab_size=read_count(config, "vocab_size"),
        width=width,
        num_layers=read_count(config, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=shared,
        mlp_width=read_count(config, "intermediate_size"),
        max_context=min(context, _window(config, kind) or context),
        rope_theta=rope.theta,
        eps=read_positive(config, "rms_norm_eps", 1e-6),
        tie_embeddings=_switch(config, "tie_word_embeddings"),
        head_width=head_width,
        rope=rope.scaling,
        has_qkv_bias=has_bias or kind.has_qkv_bias,
        has_out_bias=has_bias,
        has_mlp_bias=kind is _LLAMA and _switch(config, "mlp_bias"),
    )


def read_other_sizes(config: Mapping[str, Any]) -> CacheSizes:
    """The same fields of a decoder that we do not compute.

    Raises:
        InvalidValueError: an invalid size.
        KeyError: a field that is missing.
    """
    heads = read_count(config, "num_attention_heads")
    given = {name: value for name, value in config.items() if value is not None}
    derived = {"num_key_value_heads": heads, "head_dim": read_count(config, "hidden_size") // heads}
    return CacheSizes(
        read_count(config, "max_position_embeddings"),
        read_count(config, "num_hidden_layers"),
        read_count(derived | given, "num_key_value_heads"),
        read_count(derived | given, "head_dim"),
    )


def _kind(name: object) -> _Kind:
    found = _KINDS.get(name) if isinstance(name, str) else None
    if found is None:
        raise OtherDecoderError(f"model_type is {name!r}; allowed: {', '.join(_KINDS)}", param="model_type")
    return found


def _refuse_unknown(config: Mapping[str, Any], kind: _Kind) -> None:
    known = _READ | _HARMLESS | kind.fields
    for name, value in config.items():
        if name in known or name.startswith(_OF_VISION) or value is None or value in ("", [], {}):
            continue
        if name in _NEUTRAL:
            _require_computed(name, value, _NEUTRAL[name])
        else:
            raise OtherDecoderError(
                f"{name} is {value!r}; allowed: null, since what it does here is not known", param=name
            )


def _require_computed(name: str, found: object, allowed: object) -> None:
    if found != allowed:
        raise OtherDecoderError(f"{name} is {found!r}; allowed: {allowed!r}", param=name)


def _switch(config: Mapping[str, Any], name: str) -> bool:
    value = config.get(name, False)
    require(type(value) is bool, name, value, "true, false")
    return value


def _window(config: Mapping[str, Any], kind: _Kind) -> int | None:
    """How many positions see each other everywhere; None for all.

    Within them attention through a window is attention, so that they are the context.
    """
    if kind is _QWEN2:
        is_used = _switch(config, "use_sliding_window")
        allowed = ("full_attention", "sliding_attention") if is_used else ("full_attention",)
        for layer in config.get("layer_types") or ():
            if layer not in allowed:
                text = f"{layer!r} is in layer_types; allowed: {', '.join(allowed)}"
                raise OtherDecoderError(text, param="layer_types")
        if not is_used:
            return None
    width = config.get("sliding_window")
    return None if width is None else read_count({"sliding_window": width}, "sliding_window", 1 << 30)


@dataclass(frozen=True, slots=True)
class _Rope:
    theta: float
    scaling: LinearRope | Llama3Rope | None

    @classmethod
    def read(cls, config: Mapping[str, Any], context: int) -> "_Rope":
        given: Any = config.get("rope_scaling") or config.get("rope_parameters") or {}
        require(isinstance(given, Mapping), "rope_parameters", given, "an object")
        for name, value in given.items():
            if name not in _ROPE_FIELDS and value is not None:
                _require_computed(name, value, _NEUTRAL.get(name))
        theta = read_positive(given if "rope_theta" in given else config, "rope_theta", 10000.0)
        outside = config.get("rope_theta", theta)
        require(outside == theta, "rope_theta", outside, f"{theta}, as beside rope_type")
        return cls(theta, cls._scaling(given, context))

    @staticmethod
    def _scaling(given: Mapping[str, Any], context: int) -> LinearRope | Llama3Rope | None:
        kind = given.get("rope_type", given.get("type", "default"))
        if kind == "default":
            return None
        if kind == "linear":
            return LinearRope(read_positive(given, "factor", 0))
        if kind != "llama3":
            allowed = "'default', 'linear', 'llama3'"
            raise OtherDecoderError(f"rope_type is {kind!r}; allowed: {allowed}", param="rope_type")
        low, high = read_positive(given, "low_freq_factor", 0), read_positive(given, "high_freq_factor", 0)
        require(low < high, "high_freq_factor", high, f"above low_freq_factor, {low}")
        field_name = "original_max_position_embeddings"
        learnt = read_count({field_name: context, **given}, field_name, 1 << 30)
        return Llama3Rope(read_positive(given, "factor", 0), low, high, learnt)
