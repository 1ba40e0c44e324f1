"""Tiny checkpoints as they are published: libraries' own folders, and the original names."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from bt_model.checkpoints.export import published
from bt_model.checkpoints.layouts.eva import EVA
from bt_model.checkpoints.layouts.qformer import HF_INSTRUCTBLIP, LAVIS
from bt_model.prompt.tokenizer import TextTokenizer
from tests import tiny

SIDE, PATCH, WIDTH, LAYERS, HEADS = 12, 4, 32, 5, 4
QUERIES, QWIDTH, QLAYERS = 4, 16, 4
LLM_WIDTH = 48
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (*SPECIALS, *LETTERS, "?", *(f"##{letter}" for letter in LETTERS))


def _vision() -> dict[str, Any]:
    return {
        "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "image_size": SIDE, "patch_size": PATCH,
    }  # fmt: skip


def _llama(vocab_size: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size, hidden_size=LLM_WIDTH, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip


def write_tokenizer(folder: Path) -> TextTokenizer:
    """tokenizer.json of the tiny chat model."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny.write_tokenizers(folder)
    (folder / "chat.json").rename(folder / "tokenizer.json")
    (folder / "clip.json").unlink()
    return TextTokenizer(folder / "tokenizer.json")


def write_hf_llava(folder: Path) -> LlavaForConditionalGeneration:
    """LLaVA-1.5 as Hugging Face saves it."""
    size = write_tokenizer(folder).vocab_size
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_vision(), projection_dim=24),
        text_config=_llama(size + 1),
        image_token_index=size,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = tiny.wake(LlavaForConditionalGeneration(config))
    model.save_pretrained(folder)
    return model


def write_hf_instructblip(folder: Path) -> InstructBlipForConditionalGeneration:
    """InstructBLIP as Hugging Face saves it, with the tokenizer of its Q-Former."""
    size = write_tokenizer(folder).vocab_size
    vision = InstructBlipVisionConfig(**_vision(), hidden_act="gelu", layer_norm_eps=1e-6)
    qformer = InstructBlipQFormerConfig(
        vocab_size=len(WORDS) + 1, hidden_size=QWIDTH, num_hidden_layers=QLAYERS, num_attention_heads=2,
        intermediate_size=24, encoder_hidden_size=WIDTH, max_position_embeddings=160,
    )  # fmt: skip
    config = InstructBlipConfig(
        vision_config=vision.to_dict(), qformer_config=qformer.to_dict(),
        text_config=_llama(size + 1).to_dict(), num_query_tokens=QUERIES, image_token_index=size,
    )  # fmt: skip
    model = tiny.wake(InstructBlipForConditionalGeneration(config))
    model.save_pretrained(folder)
    write_wordpiece(folder / "qformer_tokenizer")
    return model


def write_wordpiece(folder: Path) -> None:
    """vocab.txt, as the original BERT has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")


def write_original_files(folder: Path, hf: Path, *, with_text: bool) -> None:
    """The same weights under the original names: eva/, vicuna/, qformer and projection files."""
    tensors = load_file(hf / "model.safetensors")
    write_eva(folder / "eva", tensors)
    write_vicuna(folder / "vicuna", hf, tensors)
    ours = parts(tensors)
    qformer = ours["qformer"]
    if not with_text:
        textual = ("word_embedding", "position_embedding", "text_")
        qformer = {n: t for n, t in qformer.items() if not any(word in n for word in textual)}
    named = published({"qformer": qformer}, LAVIS)
    save_file(named | {"t5_proj.weight": torch.ones(2, 2)}, folder / "qformer.safetensors")
    word = "llm_proj" if with_text else "llama_proj"
    save_file({f"{word}.{n}": t for n, t in ours["projector"].items()}, folder / "projection.safetensors")
    write_wordpiece(folder / "qformer_tokenizer")


def parts(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """An InstructBLIP's tensors by our parts and names."""
    done: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        for name, stored in HF_INSTRUCTBLIP.stored(key).items():
            part, _, rest = name.partition(".")
            done.setdefault(part, {})[rest] = stored.take(tensor)
    return done


def write_eva(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """`eva_vit_g`: flat names, one block more than is used, a norm and a head behind it."""
    folder.mkdir(parents=True)
    vision = parts(tensors)["vision"]
    flat = published({"vision": {n: t for n, t in vision.items() if "post_layernorm" not in n}}, EVA)
    last = f"blocks.{LAYERS - 1}."
    more = {n.replace(last, f"blocks.{LAYERS}."): t + 1 for n, t in flat.items() if n.startswith(last)}
    behind = {"norm.weight": torch.ones(WIDTH), "norm.bias": torch.ones(WIDTH)}
    head = {"head.weight": torch.ones(24, WIDTH), "head.bias": torch.ones(24)}
    save_file({**flat, **more, **behind, **head}, folder / "model.safetensors")
    vision_config = {
        **_vision(), "model_type": "eva_clip_vision_model", "hidden_act": "gelu", "layer_norm_eps": 1e-6
    }  # fmt: skip
    config = {"model_type": "eva_clip", "projection_dim": 24, "vision_config": vision_config}
    (folder / "config.json").write_text(json.dumps(config))


def write_vicuna(folder: Path, hf: Path, tensors: Mapping[str, Tensor]) -> None:
    """A plain Llama folder with the wrong ids that published ones have."""
    folder.mkdir(parents=True)
    prefix = "language_model."
    named = {n.removeprefix(prefix): t.clone() for n, t in tensors.items() if n.startswith(prefix)}
    named["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    save_file(named, folder / "model.safetensors")
    text = json.loads((hf / "config.json").read_text())["text_config"]
    (folder / "config.json").write_text(json.dumps({**text, "bos_token_id": 0, "eos_token_id": 1}))
    shutil.copyfile(hf / "tokenizer.json", folder / "tokenizer.json")


def write_model_file(folder: Path, name: str, **fields: object) -> Path:
    """NAME.model.json."""
    path = folder / f"{name}.model.json"
    common = {"id": name, "default_frames": 4, "defaults": {"temperature": 0.0, "repetition_penalty": 1.0}}
    path.write_text(json.dumps({**common, **fields}))
    return path


def write_all(weights: Path) -> None:
    """A weights folder with three models on two towers: llava-hf, minigpt4 and instructblip."""
    hf = weights / "tiny" / "instructblip-hf"
    write_hf_instructblip(hf)
    write_hf_llava(weights / "tiny" / "llava-hf")
    write_original_files(weights / "tiny" / "blip2", hf, with_text=False)
    folder = weights / "tiny"
    write_model_file(
        folder, "llava-hf", backend="llava", tower="llava-hf", llm="llava-hf", projector="llava-hf",
        pooling="patches", template="llava_v1.5",
    )  # fmt: skip
    write_model_file(
        folder, "minigpt4", backend="minigpt4", tower="blip2/eva", llm="blip2/vicuna",
        projector="blip2/projection.safetensors", qformer="blip2/qformer.safetensors", select_layer=-1,
        template="minigpt4_video",
    )  # fmt: skip
    write_model_file(
        folder, "instructblip", backend="instructblip", tower="blip2/eva", llm="instructblip-hf",
        projector="instructblip-hf", qformer="instructblip-hf", select_layer=-1,
    )  # fmt: skip
