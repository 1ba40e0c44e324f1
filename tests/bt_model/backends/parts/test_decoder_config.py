"""An LLM's config.json: what is read, and what is refused because we compute something else."""

from typing import Any

import pytest

from bt_model.backends.parts.decoder_config import OtherDecoderError, read_decoder_config
from bt_model.config import VICUNA_7B, LinearRope, Llama3Rope
from bt_model.errors import InvalidValueError

VICUNA = {
    "vocab_size": 32003, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "intermediate_size": 11008, "max_position_embeddings": 2048,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}  # fmt: skip
QWEN2 = {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 512}


def test_a_vicuna_is_read_with_the_librarys_defaults() -> None:
    assert read_decoder_config(VICUNA) == VICUNA_7B
    assert (VICUNA_7B.num_kv_heads, VICUNA_7B.rope_theta, VICUNA_7B.eps) == (32, 10000.0, 1e-6)
    assert (VICUNA_7B.head_dim, VICUNA_7B.tie_embeddings) == (128, False)


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({"num_key_value_heads": 8}, "num_kv_heads", 8),
        ({"rope_theta": 5e5}, "rope_theta", 5e5),
        ({"rope_parameters": {"rope_theta": 3e5}}, "rope_theta", 3e5),
        ({"rope_theta": 3e5, "rope_scaling": {"rope_theta": 3e5, "type": "default"}}, "rope_theta", 3e5),
        ({"rope_scaling": {"type": "linear", "factor": 4}}, "rope", LinearRope(4)),
        ({"rope_scaling": LLAMA3}, "rope", Llama3Rope(8.0, 1.0, 4.0, 1024)),
        ({"rms_norm_eps": 1e-5}, "eps", 1e-5),
        ({"tie_word_embeddings": True}, "tie_embeddings", True),
        ({"head_dim": 64}, "head_dim", 64),
        ({"head_dim": 192, "num_attention_heads": 5}, "head_dim", 192),
        ({"attention_bias": True}, "has_qkv_bias", True),
        ({"attention_bias": True}, "has_out_bias", True),
        ({"mlp_bias": True}, "has_mlp_bias", True),
        ({"model_type": "llava", "mm_hidden_size": 1024, "image_aspect_ratio": "pad"}, "max_context", 2048),
        ({"model_type": "mistral", "sliding_window": None}, "max_context", 2048),
        ({"model_type": "mistral", "sliding_window": 1024}, "max_context", 1024),
        ({"model_type": "mistral", "max_position_embeddings": 32768}, "max_context", 4096),
        ({"model_type": "mistral"}, "num_kv_heads", 8),
        ({"model_type": "qwen2"}, "has_qkv_bias", True),
        ({"model_type": "qwen2"}, "has_out_bias", False),
        ({"model_type": "qwen2", "sliding_window": 512}, "max_context", 2048),
        (QWEN2, "max_context", 512),
        (QWEN2 | {"layer_types": ["full_attention"] * 31 + ["sliding_attention"]}, "max_context", 512),
        ({"rope_interleaved": False, "is_llama_config": True, "partial_rotary_factor": 1.0}, "width", 4096),
    ],
)
def test_what_a_decoder_says_is_read(given: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(read_decoder_config(VICUNA | given), field) == expected


def test_a_nested_one_has_its_own_types_defaults() -> None:
    nested = read_decoder_config({"model_type": "mistral"}, is_nested=True)
    assert (nested.mlp_width, nested.num_kv_heads, nested.max_context) == (14336, 8, 4096)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model_type": "gemma2"}, "model_type is 'gemma2'; allowed: llama, llava, "),
        ({"model_type": ["llama"]}, "model_type is ['llama']; allowed: llama"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; allowed: 'silu'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type is 'yarn'; allowed: 'default', 'linear'"),
        ({"rope_scaling": {"type": "dynamic"}}, "rope_type is 'dynamic'; allowed: 'default'"),
        ({"rope_parameters": {"mrope_section": [1, 2]}}, "mrope_section is [1, 2]; allowed: None"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5; allowed: 1"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; allowed: 1"),
        ({"sliding_window": 4096}, "sliding_window is 4096; allowed: null"),
        ({"use_sliding_window": True}, "use_sliding_window is True; allowed: False"),
        ({"attention_multiplier": 0.1}, "attention_multiplier is 0.1; allowed: null"),
        ({"use_qk_norm": False}, "use_qk_norm is False; allowed: null, since what it does here is not known"),
        ({"no_rope_layers": [1, 0]}, "no_rope_layers is [1, 0]; allowed: null"),
        ({"per_layer_config": {"0": {}}}, "per_layer_config is {'0': {}}; allowed: null"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}; allowed: null"),
        ({"auto_map": {"AutoModel": "x"}}, "auto_map is {'AutoModel': 'x'}; allowed: null"),
        ({"model_type": "mistral", "attention_bias": True}, "attention_bias is True; allowed: False"),
        ({"model_type": "qwen2", "mlp_bias": True}, "mlp_bias is True; allowed: False"),
        (
            {"model_type": "qwen2", "layer_types": ["sliding_attention"]},
            "'sliding_attention' is in layer_types; allowed: full_attention",
        ),
        (QWEN2 | {"layer_types": ["mamba"]}, "'mamba' is in layer_types; allowed: full_attention, sliding"),
    ],
)
def test_another_decoder_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OtherDecoderError) as caught:
        read_decoder_config(VICUNA | given)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rope_parameters": "yarn"}, "rope_parameters is 'yarn'; allowed: an object"),
        ({"rope_scaling": {"type": "linear"}}, "factor is 0; allowed: a number above 0"),
        ({"rope_scaling": LLAMA3 | {"high_freq_factor": 1}}, "high_freq_factor is 1; allowed: above"),
        ({"rope_theta": 5e5, "rope_scaling": {"rope_theta": 3e5}}, "rope_theta is 500000.0; allowed: 300000"),
        (
            {"num_key_value_heads": 5},
            "num_key_value_heads is 5; allowed: what divides num_attention_heads",
        ),
        ({"num_key_value_heads": -8}, "num_key_value_heads is -8; allowed: what divides"),
        ({"num_key_value_heads": 8.0}, "num_key_value_heads is 8.0; allowed: what divides"),
        ({"rope_theta": 0}, "rope_theta is 0; allowed: a number above 0"),
        ({"rms_norm_eps": -1e-6}, "rms_norm_eps is -1e-06; allowed: a number above 0"),
        ({"head_dim": 63}, "head_dim is 63; allowed: an even number"),
        ({"attention_bias": 1}, "attention_bias is 1; allowed: true, false"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'; allowed: true, false"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0; allowed: 1 to"),
    ],
)
def test_a_value_that_is_none_is_refused_whoever_computes(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        read_decoder_config(VICUNA | given)
    assert not isinstance(caught.value, OtherDecoderError)
    assert caught.value.message.startswith(message)
