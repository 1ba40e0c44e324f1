"""The CLIP text tower, the table of its token ids, and the chat model with video tokens in its prompt."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bt_model.backends.parts.decoder_config import read_decoder_config
from bt_model.checkpoints.load import load_part
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.config import ClipTextConfig
from bt_model.generation.llama import Llama
from bt_model.text.clip_text import ClipTextTower
from bt_model.text.clip_tokenizer import ClipTokenizer
from tests.parity_cases.case import Case, Check, NotRunError, largest_difference, relative_error


def clip_text(case: Case) -> list[Check]:
    tower = ClipTextTower(ClipTextConfig.from_hf(case.config["text"]))
    load_part(tower, open_checkpoint(case.state), "text")
    ids = case.inputs["token_ids"]
    return case.compare({"text_tokens": tower.tokens(ids), "text_embed": tower(ids)})


def eva_text(case: Case) -> list[Check]:
    tower = ClipTextTower(eva_text_config(case.config["text"]))
    load_part(tower, open_checkpoint(case.state), "text")
    ids = case.inputs["token_ids"]
    return case.compare({"text_tokens": tower.tokens(ids), "text_embed": tower(ids)})


def eva_text_config(text: Mapping[str, Any]) -> ClipTextConfig:
    """Of the names that the published EVA code gives its arguments."""
    return ClipTextConfig(
        vocab_size=text["vocab_size"], context_length=text["context_length"], width=text["width"],
        num_layers=text["layers"], num_heads=text["heads"], mlp_width=4 * text["width"],
        projection_dim=text["output_dim"], act="gelu",
    )  # fmt: skip


def vocabulary() -> Path | None:
    """OpenAI's merges from the installed package `clip`, which is not imported; None without it."""
    spec = find_spec("clip")
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = [Path(folder) / "bpe_simple_vocab_16e6.txt.gz" for folder in folders]
    return next((file for file in files if file.is_file()), None)


def tokenizer(path: Path) -> list[Check]:
    merges = vocabulary()
    if merges is None:
        raise NotRunError("the package clip, whose merges are the vocabulary, is not installed")
    tokenize = ClipTokenizer.from_file(merges)
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    checks: list[Check] = []
    for row in rows:
        (ids,) = tokenize([row["text"]], row["length"], upstream_compat=True)
        name = f"{row['text'][:20]!r} {row['length']}"
        checks.append(Check(name, largest_difference(ids, torch.tensor(row["ids"])), 0.0))
        pooled = abs(int(ids.argmax()) - row["pooled_position"])
        checks.append(Check(f"{name} pooled", float(pooled), 0.0))
    return checks


def llm_splice(case: Case) -> list[Check]:
    config = read_decoder_config(case.config["llm"])
    lm = Llama(config)
    projector = nn.Linear(case.config["mm_hidden_size"], config.width)
    load_part(lm, open_checkpoint(case.state), "lm")
    load_part(projector, open_checkpoint(case.state), "projector")
    soft = projector(case.inputs["video_features"])
    start = case.config["vid_start_token"]
    rows = zip(case.inputs["input_ids"], soft, strict=True)
    embeds = torch.stack([_splice(lm.embed(ids), (ids == start).nonzero(), video) for ids, video in rows])
    is_real = case.inputs["attention_mask"].bool()
    logits = lm(embeds, is_real)
    loss = cross_entropy(logits[:, :-1].flatten(0, 1), case.inputs["labels"][:, 1:].flatten())
    tolerance, want = case.tolerance, case.expects
    return [
        Check("inputs_embeds", relative_error(embeds, want["inputs_embeds"]), tolerance),
        Check("logits", relative_error(logits[is_real], want["logits"][is_real]), tolerance),
        Check("loss", relative_error(loss, want["loss"]), tolerance),
    ]


def _splice(embeds: Tensor, start: Tensor, video: Tensor) -> Tensor:
    """Put the video's tokens right after the start token; a text without one stays as it is."""
    if not len(start):
        return embeds
    first = int(start) + 1
    return torch.cat([embeds[:first], video, embeds[first + len(video) :]])
