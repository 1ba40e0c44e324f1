"""What every engine of a run is given: prompts, in a file that another environment reads, too.

Needs torch and safetensors alone of the packages that are not ours.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bt_model.generation.request import Segment, Soft, Tokens

_PROMPTS, _SOFT = "prompts.json", "soft.safetensors"
_EMBEDDINGS = "model.embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids, and soft tokens that stand for a video."""

    segments: tuple[Segment, ...]

    @property
    def ids(self) -> list[int] | None:
        """If it is of token ids alone."""
        runs = [s.ids for s in self.segments if isinstance(s, Tokens)]
        return [i for ids in runs for i in ids] if len(runs) == len(self.segments) else None

    def embeds(self, table: Tensor) -> Tensor:
        """(V, W) -> (n, W)."""
        return torch.cat(
            [table[torch.tensor(s.ids)] if isinstance(s, Tokens) else s.embeds for s in self.segments]
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts that arrive together; `is_warm` if an engine may have computed a part of each before."""

    prompts: tuple[Prompt, ...]
    round: int
    is_warm: bool


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of an engine. `new_tokens` come of each prompt, whatever they are."""

    batches: tuple[Batch, ...]
    new_tokens: int


def write_load(load: Load, folder: Path) -> None:
    """Two files in `folder`."""
    soft = {
        s.key.hex(): s.embeds
        for b in load.batches
        for p in b.prompts
        for s in p.segments
        if isinstance(s, Soft)
    }
    batches = [
        {"prompts": [_written(p) for p in b.prompts], "round": b.round, "is_warm": b.is_warm}
        for b in load.batches
    ]
    save_file(soft, folder / _SOFT)
    text = json.dumps({"new_tokens": load.new_tokens, "batches": batches})
    (folder / _PROMPTS).write_text(text, encoding="utf-8")


def read_load(folder: Path) -> Load:
    """What `write_load` wrote."""
    written = json.loads((folder / _PROMPTS).read_text(encoding="utf-8"))
    soft = load_file(folder / _SOFT)
    batches = tuple(
        Batch(tuple(_read(p, soft) for p in b["prompts"]), b["round"], b["is_warm"])
        for b in written["batches"]
    )
    return Load(batches, written["new_tokens"])


def token_table(model: Path) -> Tensor:
    """(V, W) of a folder with one file of weights."""
    return load_file(model / "model.safetensors")[_EMBEDDINGS]


def _written(prompt: Prompt) -> list[Any]:
    return [list(s.ids) if isinstance(s, Tokens) else s.key.hex() for s in prompt.segments]


def _read(segments: Sequence[Any], soft: dict[str, Tensor]) -> Prompt:
    return Prompt(
        tuple(Soft(bytes.fromhex(s), soft[s]) if isinstance(s, str) else Tokens(tuple(s)) for s in segments)
    )
