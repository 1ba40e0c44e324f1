"""Torch files as they are published: one file, or shards with what lies beside them."""

import json
from pathlib import Path

import torch
from torch import Tensor


def torch_file(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def sharded(folder: Path, tensors: dict[str, Tensor], count: int) -> Path:
    """pytorch_model-*.bin with an index, a config and a tokenizer."""
    folder.mkdir()
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number in range(count):
        file = f"pytorch_model-{number + 1:05d}-of-{count:05d}.bin"
        mine = names[number::count]
        torch.save({name: tensors[name] for name in mine}, folder / file)
        weight_map |= dict.fromkeys(mine, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text('{"hidden_size": 8}')
    (folder / "tokenizer.model").write_bytes(b"pieces")
    return folder


def random(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("__", "."): torch.randn(shape) for name, shape in shapes.items()}
