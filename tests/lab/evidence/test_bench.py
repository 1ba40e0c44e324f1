"""The bench of the grid: parts come out of an exported folder, and a work folder is of one set of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.errors import CheckpointError
from bt_model.training.trainer.optimiser import Schedule
from lab.evidence import bench
from lab.evidence.bench import Bench, StudySize, set_up
from lab.export import export
from lab.model import EmbeddedModel
from tests import tiny

SIZE = StudySize(num_clips=4, num_test=1, num_headline=1, num_frames=8)


@pytest.fixture
def exported(model: EmbeddedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model in the place of the embedded one, and what builds another of its size."""
    tokenizers = tmp_path / "tokenizers"
    tokenizers.mkdir()
    tiny.write_tokenizers(tokenizers)
    folder = tmp_path / "exported"
    folder.mkdir()
    export(model, folder, tokenizers)
    small = replace(model.plan, captioner=Schedule(1, 1e-3), language_batch=2)

    def build(_work: Path, seed: int, _precision: str) -> EmbeddedModel:
        (tmp_path / f"fresh {seed}").mkdir(exist_ok=True)
        fresh = tiny.model(tmp_path / f"fresh {seed}")
        with torch.no_grad():
            for part in (fresh.tower, fresh.text.tower, fresh.image.lm, fresh.image.projector):
                for parameter in part.parameters():
                    parameter.mul_(0.5)
        return replace(fresh, plan=small)

    monkeypatch.setattr(bench, "build", build)
    return folder


def ready(work: Path, frozen: Path) -> Bench:
    return set_up(work, SIZE, precision="float32", frozen=frozen)


def test_the_frozen_parts_are_those_of_the_folder(
    model: EmbeddedModel, exported: Path, tmp_path: Path
) -> None:
    made = ready(tmp_path / "work", exported).model
    for ours, theirs in ((made.tower, model.tower), (made.image.lm, model.image.lm)):
        assert fingerprint(ours.state_dict()) == fingerprint(theirs.state_dict())
        assert not any(p.requires_grad for p in ours.parameters())


def test_rows_over_other_parts_are_not_mixed(model: EmbeddedModel, exported: Path, tmp_path: Path) -> None:
    ready(tmp_path / "work", exported)
    ready(tmp_path / "work", exported)
    with torch.no_grad():
        model.image.projector.weight.add_(1)
    export(model, exported, tmp_path / "tokenizers")
    with pytest.raises(CheckpointError, match="its rows are over another projector; another needs"):
        ready(tmp_path / "work", exported)
