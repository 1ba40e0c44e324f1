"""A trained model as a file of published names, and a run that starts from one."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bt_model.checkpoints.export import published
from bt_model.checkpoints.layouts.clip import RETRIEVAL
from bt_model.checkpoints.layouts.eva import EVA_RETRIEVAL
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.training.export import parts_beside
from bt_model.training.plan import PUBLISHED_TOWERS
from bt_model.training.presets import preset
from bt_model.training.pretrain.cost import meta_pretrain_step
from bt_model.training.pretrain.run import export, pretrain, read_settings
from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.pretrain.step import PretrainStep, fresh_step, towers_of
from bt_model.training.settings import keep_settings, settings_from
from bt_model.training.trainer.parallel import Rank
from tests.bt_model.training.clips import Corpus
from tests.golden import golden_table


@cache
def table() -> dict[str, Any]:
    return golden_table("checkpoint_keys")


@pytest.fixture(scope="module")
def work(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of a run."""
    folder = tmp_path_factory.mktemp("files")
    pretrain(corpus.settings({"run": {"steps": 2}}), folder, Rank())
    return folder


def learnt(work: Path) -> dict[str, torch.Tensor]:
    modules = torch.load(max(work.glob("pretrain-*.ckpt")), weights_only=True)["modules"]
    return {f"{part}.{name}": tensor for part, state in modules.items() for name, tensor in state.items()}


def learning(step: PretrainStep) -> dict[str, torch.Tensor]:
    parts = {part: module.state_dict() for part, module in step.learning().items()}
    return {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}


@pytest.mark.parametrize("name", ["alone.safetensors", "whole.safetensors", "alone.pth", "whole.pth"])
def test_a_run_that_starts_from_a_file_has_what_was_learnt(work: Path, corpus: Corpus, name: str) -> None:
    out = work / "exports" / name
    export(work, out, with_clip=name.startswith("whole"))
    settings = corpus.settings({"model": {"init": str(out)}})
    found, expected = learning(fresh_step(settings, towers_of(settings.model))), learnt(work)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_a_file_holds_published_names_and_what_they_do_not_say(work: Path) -> None:
    export(work, work / "alone.safetensors")
    names = set(load_file(work / "alone.safetensors"))
    assert {"backbone.balance1", "backbone.btadapter_T_layers.0.temporal_fc.weight"} <= names
    assert "extra_proj.0.weight" in names
    assert not any(name.startswith(("backbone.layers", "text_backbone")) for name in names)
    facts = open_checkpoint(work / "alone.safetensors").metadata
    assert (facts["mask"], facts["mask_rate"], facts["steps"]) == ("tube", 0.5, 2)
    beyond = {"chat": 0.0, "caption": 0.0, "anchor": 0.0}
    assert facts["losses"] == {"vtc": 1.0, "mbta": 1.0, "mbca": 1.0, **beyond}
    assert "captioner" not in facts


def test_with_clip_the_towers_are_those_that_training_began_with(work: Path, corpus: Corpus) -> None:
    export(work, work / "whole.pth", with_clip=True)
    state = torch.load(work / "whole.pth", weights_only=True)["state_dict"]
    settings = corpus.settings()
    step = fresh_step(settings, towers_of(settings.model))
    expected = published(parts_beside(step, with_clip=True), RETRIEVAL)
    towers = {key for key in expected if not key.startswith("extra_proj")}
    assert len(towers) > 50
    assert all(torch.equal(state[key], expected[key]) for key in towers)


@pytest.mark.parametrize(
    ("name", "entry"),
    [("published", "retrieval_pretrain_checkpoint"), ("published-eva", "eva_pretrain_checkpoint")],
)
def test_at_full_size_a_file_has_the_published_checkpoints_keys_and_shapes(name: str, entry: str) -> None:
    expected = table()[entry]["state_dict"]
    is_eva = name == "published-eva"
    step = meta_pretrain_step(
        settings_from(PretrainSettings, preset("pretrain", name)),
        PUBLISHED_TOWERS["eva" if is_eva else "clip"],
    )
    trained = {part: module.state_dict() for part, module in step.encoder.trainable().items()}
    parts = {**trained, **parts_beside(step, with_clip=True)}
    found = published(parts, EVA_RETRIEVAL if is_eva else RETRIEVAL)
    assert {key: list(tensor.shape) for key, tensor in found.items()} == expected


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"layers": 2}, CheckpointError, "its branch has 3 layers; model.layers is 2"),
        ({"kind": "separate_st"}, CheckpointError, "alone"),
    ],
)
def test_a_file_of_another_model_is_no_start(
    work: Path, corpus: Corpus, values: dict[str, Any], error: type[Exception], message: str
) -> None:
    export(work, work / "alone.safetensors")
    none = {"loss": {"mbta": 0.0, "mbca": 0.0}, "mask": {"rate": 0.0}} if "kind" in values else {}
    settings = corpus.settings({"model": {"init": str(work / "alone.safetensors"), **values}}, none)
    with pytest.raises(error, match=message):
        fresh_step(settings, towers_of(settings.model))


def test_only_known_endings_are_written(work: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"out is .*a\.bin; allowed: .* \.safetensors or \.pth"):
        export(work, work / "a.bin")


def test_a_folder_without_a_run_or_a_checkpoint_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="allowed: the folder of a pre-training run"):
        export(tmp_path, tmp_path / "a.safetensors")
    keep_settings(tmp_path, corpus.settings())
    with pytest.raises(CheckpointError, match="the run has no checkpoint yet"):
        export(tmp_path, tmp_path / "a.safetensors")


def test_settings_come_back_from_their_file(corpus: Corpus, tmp_path: Path) -> None:
    settings = corpus.settings({"model": {"middle_scale": "none"}, "optimiser": {"rates": {"adapter": 3.0}}})
    keep_settings(tmp_path, settings)
    assert read_settings(tmp_path) == settings
