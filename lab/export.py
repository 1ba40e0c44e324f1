"""Writes the embedded model in the layouts of published models, which serving reads."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from bt_model.atomic_files import write_json, write_text
from bt_model.checkpoints.export import save_parts
from bt_model.checkpoints.layouts.clip import HF_CLIP
from bt_model.checkpoints.layouts.key_map import KeyMap
from bt_model.checkpoints.layouts.llava import LLAVA
from bt_model.checkpoints.temporal import save_temporal
from lab.pictures import varied_scenes
from lab.shapes.captions import caption
from lab.shapes.clip_file import sample_clip

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.config import ClipTextConfig, ClipVisionConfig, LlamaConfig
    from lab.model import EmbeddedModel

TRAINED = {"mask": "tube", "layer_rule": "last K outputs"}  # what a branch's tensors do not record
NOTICE = "Trained by this project on its own drawn clips; it knows shapes, colours and motions, nothing else."


@dataclass(frozen=True, slots=True)
class Variant:
    """One model file: its branch, others by name, and the folder of a chat model with its projector."""

    id: str
    adapter: str | None
    chat: str
    about: str
    search: str | None  # the branch that it searches with
    adapters: Mapping[str, str | None] = field(default_factory=dict[str, str | None])


BANK = "search_bank.txt"
_BANK_SIZE = 1000
PRETRAINED = "bt_adapter.safetensors"  # tuning for chat makes retrieval worse
# What the chat model `llava_video` was not tuned beside: the tuned branch as it began, and no branch.
OTHERS = {"pretrained": PRETRAINED, "none": None}
VARIANTS = (
    Variant(
        "embedded", "bt_adapter_tuned.safetensors", "llava_video", "Instruction-tuned.", PRETRAINED, OTHERS
    ),
    Variant("embedded-clip", None, "llava_clip", "Without the branch: CLIP's frame average.", None),
    Variant(
        "embedded-zeroshot",
        PRETRAINED,
        "llava_image",
        "The pre-trained branch plugged into a chat model that never saw video.",
        PRETRAINED,
    ),
)


def export(model: "EmbeddedModel", out: Path, tokenizers: Path) -> None:
    """Write all files; each appears complete or not at all. `tokenizers` holds clip.json and chat.json."""
    plan = model.plan
    towers = {"vision": model.tower.state_dict(), "text": model.text.tower.state_dict()}
    _write_folder(
        out / "clip", towers, HF_CLIP, clip_config(plan.vision, plan.text), tokenizers / "clip.json"
    )
    chats = {"llava_video": model.video, "llava_clip": model.baseline, "llava_image": model.image}
    for name, chat in chats.items():
        parts = {"lm": chat.lm.state_dict(), "projector": chat.projector.state_dict()}
        config = llava_config(plan.llama, plan.vision)
        _write_folder(out / name, parts, LLAVA, config, tokenizers / "chat.json")
    pretrained, tuned = model.encoder(model.pretrained), model.encoder(model.tuned)
    head = {"extra_proj": model.head.state_dict()}
    save_temporal(out / PRETRAINED, pretrained, parts=head, metadata=TRAINED)
    save_temporal(out / "bt_adapter_tuned.safetensors", tuned, metadata=TRAINED)
    for variant in VARIANTS:
        write_json(out / f"{variant.id}.model.json", _model_file(variant, model))
    write_text(out / BANK, "".join(f"{text}\n" for text in bank_texts()))
    sample_clip(out / "sample.mp4")


def bank_texts() -> list[str]:
    """Captions of training scenes, by which search knows windows that are near every text."""
    rng = Random("search bank")
    return [caption(scene, rng) for scene in varied_scenes("train", _BANK_SIZE, rng)]


def _write_folder(
    folder: Path,
    parts: "Mapping[str, Mapping[str, Tensor]]",
    keys: KeyMap,
    config: Mapping[str, Any],
    tokenizer: Path,
) -> None:
    """A folder like a published checkpoint's: config.json, model.safetensors, tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_parts(folder / "model.safetensors", parts, keys)
    write_json(folder / "config.json", config)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")


def _model_file(variant: Variant, model: "EmbeddedModel") -> dict[str, Any]:
    gates = [model.plan.adapter.middle_scale, model.plan.adapter.output_scale]
    return {
        "id": variant.id,
        "backend": "llava",
        "tower": "clip",
        "adapter": variant.adapter,
        "adapters": dict(variant.adapters),
        "gates": gates,
        "llm": variant.chat,
        "projector": variant.chat,
        "template": "plain",
        "default_frames": model.plan.num_frames,
        "max_videos": 1,  # so are its dialogues
        "fit": "crop",
        "search": {"text": "clip", "adapter": variant.search, "bank": BANK},
        "defaults": {"temperature": 0.0},
        "notice": f"{variant.about} {NOTICE}",
    }


def clip_config(vision: "ClipVisionConfig", text: "ClipTextConfig") -> dict[str, Any]:
    """A Hugging Face CLIP config.json."""
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": vision.projection_dim,
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_size": vision.width,
            "num_hidden_layers": vision.num_layers,
            "num_attention_heads": vision.num_heads,
            "intermediate_size": vision.mlp_width,
            "projection_dim": vision.projection_dim,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": vision.eps,
        },
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "hidden_size": text.width,
            "num_hidden_layers": text.num_layers,
            "num_attention_heads": text.num_heads,
            "intermediate_size": text.mlp_width,
            "projection_dim": text.projection_dim,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": text.eps,
            "bos_token_id": text.vocab_size - 2,
            "eos_token_id": text.vocab_size - 1,
            "pad_token_id": 0,
        },
    }


def llava_config(llama: "LlamaConfig", vision: "ClipVisionConfig") -> dict[str, Any]:
    """A LLaVA v1 config.json, with the tokenizer's ids, which published ones do not have."""
    return {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "vocab_size": llama.vocab_size,
        "hidden_size": llama.width,
        "num_hidden_layers": llama.num_layers,
        "num_attention_heads": llama.num_heads,
        "num_key_value_heads": llama.num_kv_heads,
        "intermediate_size": llama.mlp_width,
        "max_position_embeddings": llama.max_context,
        "rms_norm_eps": llama.eps,
        "rope_theta": llama.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": llama.tie_embeddings,
        "mm_hidden_size": vision.width,
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "../clip",
        "use_mm_proj": True,
    }
