"""Model folders as they are published, tiny: CLIP as transformers writes it."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

from bt_model.text.clip_tokenizer import ClipTokenizer
from tests import tiny

_SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 12,
}


def write_clip_folder(folder: Path, **values: Any) -> Path:
    """clip/ with both towers and a tokenizer, and a model file beside it, whose path is returned."""
    clip = folder / "clip"
    clip.mkdir(parents=True)
    tiny.write_tokenizers(folder)
    (folder / "clip.json").rename(clip / "tokenizer.json")
    words = ClipTokenizer.from_file(clip)
    text = {
        **_SIZES,
        "vocab_size": words.vocab_size,
        "max_position_embeddings": 20,
        "bos_token_id": words.start_id,
        "eos_token_id": words.end_id,
    }
    vision = {**_SIZES, "image_size": tiny.SIDE, "patch_size": 4}
    theirs = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    torch.manual_seed(11)
    for name, parameter in theirs.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0, std=0.3)
    theirs.save_pretrained(clip)
    path = folder / "clip.model.json"
    path.write_text(json.dumps({"id": "clip", "backend": "echo", "tower": "clip", **values}))
    return path
