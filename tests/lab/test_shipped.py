"""The frozen parts of the grid come out of an exported folder as they went in."""

from pathlib import Path

import pytest
import torch

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.errors import CheckpointError
from lab.export import export
from lab.model import EmbeddedModel
from lab.shipped import copy_tokenizers, read_frozen


def parts(model: EmbeddedModel) -> dict[str, str]:
    every = {
        "tower": model.tower,
        "text": model.text.tower,
        "lm": model.image.lm,
        "projector": model.image.projector,
    }
    return {name: fingerprint(part.state_dict()) for name, part in every.items()}


def exported(model: EmbeddedModel, folder: Path) -> Path:
    tokenizers = folder / "tokenizers"
    tokenizers.mkdir(parents=True)
    for name in ("clip", "chat"):
        (tokenizers / f"{name}.json").write_text(name)
    (folder / "out").mkdir()
    export(model, folder / "out", tokenizers)
    return folder / "out"


def test_frozen_parts_are_those_that_were_exported(model: EmbeddedModel, tmp_path: Path) -> None:
    folder = exported(model, tmp_path)
    before = parts(model)
    with torch.no_grad():
        for part in (model.tower, model.text.tower, model.image.lm, model.image.projector):
            for parameter in part.parameters():
                parameter.zero_()
    assert set(parts(model).values()).isdisjoint(before.values())
    read_frozen(model, folder)
    assert parts(model) == before


def test_its_tokenizers_are_copied_but_not_over_others(model: EmbeddedModel, tmp_path: Path) -> None:
    folder, work = exported(model, tmp_path), tmp_path / "work"
    for _ in range(2):
        copy_tokenizers(folder, work)
        assert {path.name: path.read_text() for path in work.iterdir()} == {
            "clip.json": "clip",
            "chat.json": "chat",
        }
    (work / "clip.json").write_text("another")
    with pytest.raises(CheckpointError, match=r"clip\.json: another model's"):
        copy_tokenizers(folder, work)
    assert (work / "clip.json").read_text() == "another"


def test_a_folder_without_an_embedded_model_is_named(model: EmbeddedModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing"):
        copy_tokenizers(tmp_path / "nothing", tmp_path / "work")
    with pytest.raises(CheckpointError, match="nothing"):
        read_frozen(model, tmp_path / "nothing")
