"""A decoder layer's matrices as steps need them."""

from dataclasses import dataclass

from torch import Tensor

from bt_model.generation.linear import Linear, merge
from bt_model.generation.llama_layers import DecoderLayer, LlamaDecoder


@dataclass(frozen=True, slots=True)
class MergedLayer:
    """`qkv` and `gate_up` are merged over their outputs."""

    attention_norm: Tensor
    qkv: Linear
    out: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear

    @classmethod
    def of(cls, layer: DecoderLayer, *, keep: bool) -> "MergedLayer":
        """Without `keep` the layer's own matrices are released."""
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            layer.input_layernorm.weight,
            merge([attention.q_proj, attention.k_proj, attention.v_proj], keep=keep),
            merge([attention.o_proj], keep=keep),
            layer.post_attention_layernorm.weight,
            merge([mlp.gate_proj, mlp.up_proj], keep=keep),
            merge([mlp.down_proj], keep=keep),
        )


def merged_layers(decoder: LlamaDecoder, *, keep: bool) -> list[MergedLayer]:
    """Of all layers, one after the other, so that no more than one layer is in memory twice."""
    return [MergedLayer.of(layer, keep=keep) for layer in decoder.layers if isinstance(layer, DecoderLayer)]
