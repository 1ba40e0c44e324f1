"""Names and shapes of published checkpoints at full size, from the libraries or spelt as the originals."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers import LlamaForCausalLM as HfLlama

from bt_model.config import EVA_G14

Shapes = dict[str, tuple[int, ...]]
WIDTH, MLP, JOINT = 1024, 4096, 768
LAVIS_WIDTH = 768
LLAMA = {"hidden_size": 4096, "intermediate_size": 11008}


def on_meta(build: Callable[[], nn.Module]) -> Shapes:
    """Names and shapes of a library's model."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}


def renamed(shapes: Shapes, *rules: tuple[str, str]) -> Shapes:
    """Names as they are on the hub, which the library changes while it loads."""

    def rename(name: str) -> str:
        return next((new + name.removeprefix(old) for old, new in rules if name.startswith(old)), name)

    return {rename(name): shape for name, shape in shapes.items()}


def llama(layers: int, vocabulary: int) -> Shapes:
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=4096, intermediate_size=11008, num_hidden_layers=layers
    )
    shapes = on_meta(lambda: HfLlama(config))
    return shapes | rotations("model.", layers)


def rotations(prefix: str, layers: int) -> Shapes:
    """Buffers that old versions of the library saved."""
    return {f"{prefix}layers.{i}.self_attn.rotary_emb.inv_freq": (64,) for i in range(layers)}


def linear(name: str, out: int, inside: int) -> Shapes:
    return {f"{name}.weight": (out, inside), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def clip_block(name: str) -> Shapes:
    attention = {k: v for p in "qkv" for k, v in linear(f"{name}.self_attn.{p}_proj", WIDTH, WIDTH).items()}
    return {
        **attention,
        **linear(f"{name}.self_attn.out_proj", WIDTH, WIDTH),
        **norm(f"{name}.layer_norm1", WIDTH),
        **norm(f"{name}.layer_norm2", WIDTH),
        **linear(f"{name}.mlp.fc1", MLP, WIDTH),
        **linear(f"{name}.mlp.fc2", WIDTH, MLP),
    }


def clip_branch(prefix: str, layers: int) -> Shapes:
    shapes: Shapes = {
        f"{prefix}btadapter_cls_token": (1, 1, WIDTH),
        f"{prefix}btadapter_time_embed.weight": (64, WIDTH),
    }
    for i in range(layers):
        time = clip_block(f"{prefix}btadapter_T_layers.{i}")
        shapes |= {name: shape for name, shape in time.items() if "mlp" not in name and "norm2" not in name}
        shapes |= linear(f"{prefix}btadapter_T_layers.{i}.temporal_fc", WIDTH, WIDTH)
        shapes |= clip_block(f"{prefix}btadapter_S_layers.{i}")
    return shapes


def pretrain() -> Shapes:
    """The mmengine checkpoint: a whole CLIP with the branch, its text tower and the head of the losses."""
    shapes: Shapes = {
        "backbone.class_embedding": (WIDTH,),
        "backbone.patch_embedding.weight": (WIDTH, 3, 14, 14),
        "backbone.position_embedding.weight": (257, WIDTH),
        "backbone.visual_projection.weight": (JOINT, WIDTH),
        "backbone.balance1": (WIDTH,),
        "backbone.balance2": (WIDTH,),
        **norm("backbone.pre_layrnorm", WIDTH),
        **norm("backbone.post_layernorm", WIDTH),
        **clip_branch("backbone.", 4),
        **linear("extra_proj.0", JOINT, WIDTH),
        **norm("extra_proj.1", JOINT),
    }
    for i in range(24):
        shapes |= clip_block(f"backbone.layers.{i}")
    text = on_meta(lambda: CLIPModel(CLIPConfig(**clip_l())))
    kept = ("text_model.", "text_projection.")
    return shapes | {f"text_backbone.{name}": s for name, s in text.items() if name.startswith(kept)}


def clip_l() -> dict[str, object]:
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": MLP,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    }
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return {
        "vision_config": vision | {"patch_size": 14, "image_size": 224, "projection_dim": JOINT},
        "text_config": text | {"projection_dim": JOINT},
        "projection_dim": JOINT,
    }


def eva_block(name: str) -> Shapes:
    width, mlp = EVA_G14.width, EVA_G14.mlp_width
    return {
        **norm(f"{name}.norm1", width),
        f"{name}.attn.q_bias": (width,),
        f"{name}.attn.v_bias": (width,),
        f"{name}.attn.qkv.weight": (3 * width, width),
        **linear(f"{name}.attn.proj", width, width),
        **norm(f"{name}.norm2", width),
        **linear(f"{name}.mlp.fc1", mlp, width),
        **linear(f"{name}.mlp.fc2", width, mlp),
    }


def eva() -> Shapes:
    """`eva_vit_g.pth`: flat names, 40 blocks, a norm and a head behind them."""
    width = EVA_G14.width
    shapes: Shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 257, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        **norm("norm", width),
        **linear("head", 1024, width),
    }
    for i in range(40):
        shapes |= eva_block(f"blocks.{i}")
    return shapes


def lavis(projector: str, out: int, *, has_text: bool) -> Shapes:
    """A BLIP-2 or InstructBLIP dict: Q-Former, its queries and norm, one projection."""
    width, mlp, bert = LAVIS_WIDTH, 3072, "Qformer.bert."
    shapes: Shapes = {
        "query_tokens": (1, 32, width),
        **norm("ln_vision", EVA_G14.width),
        **norm(f"{bert}embeddings.LayerNorm", width),
        **linear(projector, out, width),
    }
    if has_text:
        shapes |= {
            f"{bert}embeddings.position_ids": (1, 512),
            f"{bert}embeddings.word_embeddings.weight": (30523, width),
            f"{bert}embeddings.position_embeddings.weight": (512, width),
        }
    for i in range(12):
        layer = f"{bert}encoder.layer.{i}."
        looks = [("attention", width), *([("crossattention", EVA_G14.width)] if i % 2 == 0 else [])]
        for word, inside in looks:
            for part, size in (("query", width), ("key", inside), ("value", inside)):
                shapes |= linear(f"{layer}{word}.self.{part}", width, size)
            shapes |= linear(f"{layer}{word}.output.dense", width, width)
            shapes |= norm(f"{layer}{word}.output.LayerNorm", width)
        for end in ("_query", *([""] if has_text else [])):
            shapes |= linear(f"{layer}intermediate{end}.dense", mlp, width)
            shapes |= linear(f"{layer}output{end}.dense", width, mlp)
            shapes |= norm(f"{layer}output{end}.LayerNorm", width)
    return shapes


def hf_instructblip(layers: int) -> Shapes:
    text = LlamaConfig(vocab_size=32064, num_hidden_layers=layers, **LLAMA)
    config = InstructBlipConfig(qformer_config={"vocab_size": 30523}, text_config=text.to_dict())
    return on_meta(lambda: InstructBlipForConditionalGeneration(config))


def hf_llava(layers: int) -> Shapes:
    vision = clip_l()["vision_config"]
    assert isinstance(vision, dict)
    text = LlamaConfig(vocab_size=32064, num_hidden_layers=layers, **LLAMA)
    config = LlavaConfig(
        vision_config=vision | {"image_size": 336, "model_type": "clip_vision_model"}, text_config=text
    )
    return renamed(
        on_meta(lambda: LlavaForConditionalGeneration(config)),
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    )
