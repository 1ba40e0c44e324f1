"""A model file's values: kinds, ranges, and what a backend takes where nothing is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from bt_model.assembly.load import check_pooling
from bt_model.assembly.model_file import ModelFile, read_model_file
from bt_model.errors import CheckpointError
from bt_model.types import GenerateOptions

NEEDED = {"id": "a", "backend": "llava", "tower": "clip"}


def said(folder: Path, **values: Any) -> ModelFile:
    path = folder / "a.model.json"
    path.write_text(json.dumps({**NEEDED, **values}))
    return read_model_file(path)


ODD: list[tuple[str, Any, str]] = [
    ("id", None, "allowed: a string"),
    ("id", "", "allowed: text that can be printed, not empty"),
    ("id", "a\nb", "allowed: text that can be printed"),
    ("backend", 5, "allowed: a string"),
    ("backend", "", "allowed: text that can be printed, not empty"),
    ("tower", 5, "allowed: a string"),
    ("tower", ["clip"], "allowed: a string"),
    ("tower", "", "allowed: text that can be printed, not empty"),
    ("llm", None, "allowed: a string"),
    ("projector", {}, "allowed: a string"),
    ("qformer", 5, "allowed: a string, or null"),
    ("lora", 5, "allowed: a string, or null"),
    ("adapter", [], "allowed: a string, or null"),
    ("adapters", [], "allowed: a table of names and values"),
    ("adapters", {"a b": "x.safetensors"}, "allowed: names of 1 to 64 letters"),
    ("adapters", {"a@b": None}, "allowed: names of 1 to 64 letters"),
    ("adapters.a", {"a": 5}, "allowed: a string, or null"),
    ("gates", 1, "allowed: a list of 2, or null"),
    ("gates", [1, 1, 1], "allowed: a list of 2, or null"),
    ("gates", [1, None], "allowed: two numbers"),
    ("gates", [float("nan"), 1], "allowed: two numbers"),
    ("gates", [float("inf"), 1], "allowed: two numbers"),
    ("gates", [10**400, 1], "allowed: two numbers"),
    ("gates.0", [True, 1], "allowed: a number, or null"),
    ("gates.0", ["1", 1], "allowed: a number, or null"),
    ("upstream_compat", 1, "allowed: true or false"),
    ("select_layer", -3, "allowed: a whole number, -2 to -1"),
    ("select_layer", 0, "allowed: a whole number, -2 to -1"),
    ("select_layer", [-2], "allowed: a whole number, -2 to -1"),
    ("select_layer", -2.0, "allowed: a whole number, -2 to -1"),
    ("pooling", 5, "allowed: a string"),
    ("entry", "D", "allowed: clip, frames"),
    ("entry", [], "allowed: clip, frames"),
    ("template", [], "allowed: a string"),
    ("default_frames", "8", "allowed: a whole number"),
    ("default_frames", True, "allowed: a whole number"),
    ("default_frames", -1, "allowed: a whole number, 1 to 128"),
    ("default_frames", 0, "allowed: a whole number, 1 to 128"),
    ("default_frames", 1000, "allowed: a whole number, 1 to 128"),
    ("max_videos", 0, "allowed: a whole number, 1 to 8"),
    ("max_videos", 9, "allowed: a whole number, 1 to 8"),
    ("fit", "foo", "allowed: squash, crop, pad"),
    ("fit", None, "allowed: squash, crop, pad"),
    ("defaults", [], "allowed: a section"),
    ("defaults.foo", {"foo": 1}, "allowed: max_tokens, temperature"),
    ("search", "clip", "allowed: a section"),
    ("search.text", {"text": None}, "allowed: a string"),
    ("search.tokenizer", {"tokenizer": 5}, "allowed: a string"),
    ("search.bank", {"bank": ["a"]}, "allowed: a string"),
    ("search.adapter", {"adapter": []}, "allowed: a string, or null"),
    ("accept", "positions", "allowed: a list"),
    ("accept", None, "allowed: a list"),
    ("accept.0", [5], "allowed: a string"),
    ("notice", 5, "allowed: a string"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), ODD)
def test_a_value_of_another_kind_or_out_of_range_is_refused_by_name(
    tmp_path: Path, name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.model\.json: {name} is .*; ?{allowed}"):
        said(tmp_path, **{name.partition(".")[0]: value})


def test_every_field_is_refused_in_some_way() -> None:
    assert {name.partition(".")[0] for name, _, _ in ODD} == set(ModelFile.__dataclass_fields__)


def test_a_gate_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gates\.1 is missing"):
        said(tmp_path, gates=[1])


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("stop", "abc", "allowed: a list"),
        ("stop.0", [5], "allowed: a string"),
        ("stop", [""], "allowed: up to 4 strings"),
        ("stop", None, "allowed: a list"),
        ("temperature", "0", "allowed: a number, or null"),
        ("temperature", 3, "allowed: 0.0 to 2.0"),
        ("temperature", float("nan"), "allowed: 0.0 to 2.0"),
        ("max_tokens", 1.5, "allowed: a whole number, or null"),
        ("max_tokens", True, "allowed: a whole number, or null"),
        ("top_p", [], "allowed: a number, or null"),
        ("top_k", "5", "allowed: a whole number, or null"),
        ("repetition_penalty", 0, "allowed: 0.01 to 10.0"),
        ("seed", {}, "allowed: a whole number, or null"),
    ],
)
def test_a_default_that_no_request_could_ask_for_is_refused(
    tmp_path: Path, name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.model\.json: defaults\.{name} is .*; {allowed}"):
        said(tmp_path, defaults={name.partition(".")[0]: value})


def test_values_are_read_as_they_are_used(tmp_path: Path) -> None:
    model = said(tmp_path, gates=[1, 2], defaults={"stop": ["x"], "top_k": None}, accept=["positions"])
    assert model.gates == (1.0, 2.0)
    assert model.defaults == GenerateOptions(stop=("x",))
    assert model.accept == ("positions",)
    assert said(tmp_path, gates=[None, None]).gates == (None, None)


@pytest.mark.parametrize(
    ("backend", "select_layer", "template", "pooling"),
    [
        ("llava", -2, "video-chatgpt_v1", "patches_cls"),
        ("video-chatgpt", -2, "video-chatgpt_v1", "temporal_spatial"),
        ("minigpt4", -1, "minigpt4_video", "patches_cls"),
        ("instructblip", -1, "plain", "patches_cls"),
        ("somebody's", -2, "video-chatgpt_v1", "patches_cls"),
    ],
)
def test_a_backend_has_what_it_was_published_with(
    tmp_path: Path, backend: str, select_layer: int, template: str, pooling: str
) -> None:
    model = said(tmp_path, backend=backend)
    assert (model.select_layer, model.template, model.pooling) == (select_layer, template, pooling)
    model = said(tmp_path, backend=backend, select_layer=-2, template="plain", pooling="patches")
    assert (model.select_layer, model.template, model.pooling) == (-2, "plain", "patches")


@pytest.mark.parametrize(
    ("entry", "pooling", "qformer", "is_right"),
    [
        ("clip", "patches_cls", "q", True),
        ("clip", "patches", "q", True),
        ("clip", "frames_cls", "q", False),
        ("clip", "frames", "q", False),
        ("clip", "frames_cls", None, True),
        ("joint", "frames_cls", "q", True),
        ("frames", "patches_cls", "q", False),
        ("all_frames", "frames", "q", False),
    ],
)
def test_entry_and_pooling_belong_together(
    tmp_path: Path, entry: str, pooling: str, qformer: str | None, is_right: bool
) -> None:
    model = said(tmp_path, entry=entry, pooling=pooling, qformer=qformer)
    assert (model.entry, model.pooling, model.qformer) == (entry, pooling, qformer)
    if is_right:
        check_pooling(tmp_path, model)
        return
    with pytest.raises(
        CheckpointError, match=f"entry is '{entry}' and pooling '{pooling}'; allowed with it: "
    ):
        check_pooling(tmp_path, model)


def test_a_file_nested_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.model.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"a\.model\.json: not a readable JSON file"):
        read_model_file(tmp_path / "a.model.json")


def test_a_model_below_the_weights_names_nothing_outside_of_them(tmp_path: Path) -> None:
    weights, elsewhere = tmp_path / "weights", tmp_path / "work"
    (weights / "mine").mkdir(parents=True)
    elsewhere.mkdir()
    for part in ("../../secret", "/etc", "clip/../../../secret"):
        for name in ("tower", "llm", "projector", "qformer", "adapter", "lora"):
            said(weights / "mine", **{name: part})
            with pytest.raises(
                CheckpointError, match=rf"mine/a\.model\.json: {name} is '{part}'; allowed: a path"
            ):
                read_model_file(weights / "mine" / "a.model.json", weights)
    said(weights / "mine", tower="../embedded/clip", llm=str(weights / "embedded" / "llm"))
    assert read_model_file(weights / "mine" / "a.model.json", weights).tower == "../embedded/clip"
    # a tuned model in the folder of its run, given by path, reads what it was tuned from
    said(elsewhere, tower="../base/clip")
    assert read_model_file(elsewhere / "a.model.json", weights).tower == "../base/clip"


@pytest.mark.parametrize("part", ["../clip", "../clip/inner", "tower"])
def test_a_link_of_the_weights_may_lead_to_another_disk(tmp_path: Path, part: str) -> None:
    weights, disk = tmp_path / "weights", tmp_path / "disk"
    for folder in (disk / "clip" / "inner", disk / "mine" / "tower", weights):
        folder.mkdir(parents=True)
    (weights / "clip").symlink_to(disk / "clip")
    (weights / "mine").symlink_to(disk / "mine")
    said(weights / "mine", tower=part)
    assert read_model_file(weights / "mine" / "a.model.json", weights).tower == part


@pytest.mark.parametrize("part", ["out", "out/passwd", "deep/../../secret", "inner/up"])
def test_a_link_that_came_with_a_model_may_not_leave(tmp_path: Path, part: str) -> None:
    weights, mine = tmp_path / "weights", tmp_path / "weights" / "mine"
    (mine / "inner").mkdir(parents=True)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (mine / "out").symlink_to("/etc")
    (mine / "deep").symlink_to(tmp_path / "a" / "b")  # by name `deep/../..` is the weights; it is not
    (mine / "inner" / "up").symlink_to("../../../secret")
    said(mine, llm=part)
    with pytest.raises(CheckpointError, match=rf"mine/a\.model\.json: llm is '{part}'; allowed: a path that"):
        read_model_file(mine / "a.model.json", weights)


def test_an_adapter_beside_the_models_own_makes_a_model_of_its_own(tmp_path: Path) -> None:
    model = said(tmp_path, adapter="own.safetensors", adapters={"other": "b.safetensors", "none": None})
    assert model.ids_beside() == {f"{model.id}@other": "other", f"{model.id}@none": "none"}
    beside = model.with_adapter("other")
    assert (beside.id, beside.adapter, beside.adapters) == (f"{model.id}@other", "b.safetensors", {})
    assert model.with_adapter("none").adapter is None


def test_another_adapter_may_not_lie_elsewhere_either(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    path = folder / "a.model.json"
    values = {"id": "a", "backend": "echo", "tower": "clip", "adapters": {"x": "../../x.safetensors"}}
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"adapters\.x is .*; allowed: a path that stays in"):
        read_model_file(path, tmp_path)
