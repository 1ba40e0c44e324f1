"""`btchat train embedded` from nothing to a folder that serving reads, at a few steps a stage."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bt_model.assembly.load import load
from bt_model.training.settings import Precision
from bt_model.training.trainer.optimiser import Schedule
from lab import model
from lab.embedded import train_all, train_embedded
from lab.export import VARIANTS, export
from lab.plan import EmbeddedPlan, embedded_plan

TWO_STEPS = Schedule(2, 1e-3, precision="bfloat16")


def small_plan(vocab_size: int, text_vocab_size: int, precision: Precision) -> EmbeddedPlan:
    """The shipped sizes but for a decoder of one layer; two steps a stage."""
    full = embedded_plan(vocab_size, text_vocab_size, precision)
    stages = ("clip", "pretrain", "language", "captioner", "instruct", "baseline")
    batches = ("clip_batch", "pretrain_batch", "language_batch", "instruct_batch")
    sizes = {**dict.fromkeys(stages, TWO_STEPS), **dict.fromkeys(batches, 4)}
    llama = replace(full.llama, num_layers=1)
    return replace(full, llama=llama, num_clips=8, num_test_clips=24, **sizes)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): bytes_of(path) for path in folder.rglob("*") if path.is_file()}


def bytes_of(path: Path) -> bytes:
    """A file; of safetensors with the header in one order, as its writer keeps none for the metadata."""
    content = path.read_bytes()
    if path.suffix != ".safetensors":
        return content
    end = 8 + int.from_bytes(content[:8], "little")
    return json.dumps(json.loads(content[8:end]), sort_keys=True).encode() + content[end:]


def test_every_stage_runs_and_is_read_back_by_a_second_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "embedded_plan", small_plan)
    monkeypatch.setattr(model, "NUM_TEXT_SCENES", 200)
    work, first, second = (tmp_path / name for name in ("work", "first", "second"))
    train_embedded(first, work, precision="bfloat16")
    logs = {path: path.stat().st_mtime_ns for path in work.glob("*.csv")}
    assert {path.stem for path in logs} == {
        "towers", "language", "captioner", "branch", "instruct", "baseline"
    }  # fmt: skip
    for variant in VARIANTS:
        assert load(variant.id, tmp_path, device="cpu").card.id == variant.id
    second.mkdir()
    export(train_all(work, precision="bfloat16").model, second, work)
    assert {path: path.stat().st_mtime_ns for path in work.glob("*.csv")} == logs
    (first / "REPORT.md").unlink()
    assert contents(first) == contents(second)
