"""REPORT.md of the embedded model: training, cost and accuracy."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bt_model.atomic_files import write_text
from bt_model.settings.section import Section
from bt_model.training.trainer.loop import Trained
from bt_model.vision.pool import patches_cls
from lab.evaluate import AnswerRecord, ChatTest, answer_questions, encode_clips
from lab.measures import embed_clips, twin_choices
from lab.shapes.questions import STATIC, TEMPORAL
from lab.statistics import mean_share

if TYPE_CHECKING:
    from lab.clips import CachedClips
    from lab.model import EmbeddedModel
    from lab.statistics import Share

EVALUATION_SEED = 1
KINDS = (*TEMPORAL, "static", *STATIC)
MODELS = {
    "embedded": "branch, instruction-tuned",
    "embedded-clip": "CLIP averaged over frames, tuned alike",
    "embedded-zeroshot": "pre-trained branch in the image-only chat model",
}


def evaluate_all(model: "EmbeddedModel", test: "CachedClips") -> dict[str, AnswerRecord]:
    """Every variant's answers about held-out combinations."""
    variants = {
        "embedded": (model.encoder(model.tuned), model.video),
        "embedded-clip": (model.encoder(None), model.baseline),
        "embedded-zeroshot": (model.encoder(model.pretrained), model.image),
    }
    return {
        name: answer_questions(
            encode_clips(encoder, patches_cls, test),
            ChatTest(chat, model.speller, model.num_video, EVALUATION_SEED),
        )
        for name, (encoder, chat) in variants.items()
    }


def write_report(
    path: Path, model: "EmbeddedModel", test: "CachedClips", costs: Mapping[str, Trained], size_bytes: int
) -> None:
    """Evaluate everything and write the page."""
    known = evaluate_all(model, test)
    pretrained = model.encoder(model.pretrained)
    embeddings = embed_clips(pretrained, model.text, test, EVALUATION_SEED)
    retrieval = {k: mean_share([a]) for k, a in twin_choices(embeddings, test.scenes).items()}
    lines = [
        "# The embedded model",
        "",
        "Written by `btchat train embedded`; every figure was measured by that run. Intervals are 95 %, from",
        "a bootstrap over scenes. The test clips combine colour, shape and motion as no training clip or",
        "picture does.",
        "",
        *_cost(model, costs, size_bytes),
        "## Answers, word for word",
        "",
        "The whole sentence must be the expected one. `python -m benchmarks.embedded` asks through HTTP, and",
        "counts every sentence that names the right value; its figures stand in docs/performance.md.",
        "",
        *_table(known),
        "## Both twins right (an order-blind model gets 0)",
        "",
        *_rows(("kind", *MODELS), [(k, *(str(known[m].twins(k)) for m in MODELS)) for k in TEMPORAL]),
        "## Pre-trained branch: a clip is nearer to its own caption than to its twin's (chance 0.5)",
        "",
        *_rows(("event", "share"), [(kind, str(value)) for kind, value in retrieval.items()]),
    ]
    write_text(path, "\n".join(lines))


def _cost(model: "EmbeddedModel", costs: Mapping[str, Trained], size_bytes: int) -> list[str]:
    plan = model.plan
    total = sum(stage.cpu_seconds for stage in costs.values())
    rows = [
        (name, f"{stage.cpu_seconds:.0f}", f"{stage.wall_seconds:.0f}", f"{stage.loss:.3f}")
        for name, stage in costs.items()
    ]
    return [
        f"- {total / 60:.1f} CPU minutes in all, seed {plan.seed}, torch {torch.__version__},"
        f" Python {platform.python_version()}, {platform.machine()}",
        f"- all weights together: {size_bytes / 1e6:.1f} MB",
        f"- matrix products of all stages in {plan.clip.precision}",
        f"- tower: {_fields(plan.vision)}",
        f"- text tower: {_fields(plan.text)}",
        f"- branch: {_fields(plan.adapter)}",
        f"- its pre-training: {_fields(plan.mask)}, {_fields(plan.losses)}",
        f"- decoder: {_fields(plan.llama)}",
        f"- clips: {plan.num_clips}, {plan.num_test_clips} to test, {plan.num_frames} frames of each",
        "",
        *_rows(("stage", "CPU seconds", "wall seconds", "last loss"), rows),
    ]


def _fields(config: object) -> str:
    is_section = isinstance(config, Section)
    values = config.model_dump() if is_section else asdict(config)  # pyright: ignore[reportArgumentType] - a dataclass
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _table(records: Mapping[str, AnswerRecord]) -> list[str]:
    shares: dict[str, dict[str, Share]] = {name: records[name].shares() for name in MODELS}
    rows = [(kind, *(str(shares[name][kind]) for name in MODELS)) for kind in KINDS]
    return _rows(("question", *(f"{name}: {about}" for name, about in MODELS.items())), rows)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [" | ".join(("", *row, "")).strip() for row in (head, ["---"] * len(head), *rows)]
    return [*lines, ""]
