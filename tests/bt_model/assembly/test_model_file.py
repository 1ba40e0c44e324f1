"""A model file's values: kinds, ranges, and what a backend takes where nothing is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from bt_model.assembly.model_file import ModelFile, read
from bt_model.errors import CheckpointError
from bt_model.types import GenerateOptions

NEEDED = {"id": "a", "backend": "llava", "tower": "clip"}


def said(folder: Path, **values: Any) -> ModelFile:
    path = folder / "a.model.json"
    path.write_text(json.dumps({**NEEDED, **values}))
    return read(path)


ODD: list[tuple[str, Any, str]] = [
    ("id", None, "allowed: text"),
    ("id", "", "allowed: text that can be printed, not empty"),
    ("id", "a\nb", "allowed: text that can be printed"),
    ("backend", 5, "allowed: text"),
    ("backend", "", "allowed: text that can be printed, not empty"),
    ("tower", 5, "allowed: text"),
    ("tower", ["clip"], "allowed: text"),
    ("tower", "", "allowed: text that can be printed, not empty"),
    ("llm", None, "allowed: text"),
    ("projector", {}, "allowed: text"),
    ("qformer", 5, "allowed: text or null"),
    ("lora", 5, "allowed: text or null"),
    ("adapter", [], "allowed: text or null"),
    ("gates", 1, "allowed: a list"),
    ("gates", [1], "allowed: two numbers"),
    ("gates", [1, 1, 1], "allowed: two numbers"),
    ("gates", [1, None], "allowed: two numbers"),
    ("gates", [float("nan"), 1], "allowed: two numbers"),
    ("gates", [float("inf"), 1], "allowed: two numbers"),
    ("gates", [10**400, 1], "allowed: two numbers"),
    ("gates", [True, 1], "allowed: two numbers"),
    ("gates", ["1", 1], "allowed: two numbers"),
    ("upstream_compat", 1, "allowed: true or false"),
    ("select_layer", -3, "allowed: -2, or -1"),
    ("select_layer", 0, "allowed: -2, or -1"),
    ("select_layer", [-2], "allowed: a whole number"),
    ("select_layer", -2.0, "allowed: a whole number"),
    ("pooling", 5, "allowed: text"),
    ("entry", "D", "allowed: clip, frames"),
    ("entry", [], "allowed: text"),
    ("template", [], "allowed: text"),
    ("default_frames", "8", "allowed: a whole number"),
    ("default_frames", True, "allowed: a whole number"),
    ("default_frames", -1, "allowed: 1 to 128"),
    ("default_frames", 0, "allowed: 1 to 128"),
    ("default_frames", 1000, "allowed: 1 to 128"),
    ("fit", "foo", "allowed: squash, crop, pad"),
    ("fit", None, "allowed: text"),
    ("defaults", [], "allowed: an object"),
    ("defaults", {"foo": 1}, "allowed: an object of max_tokens, temperature"),
    ("accept", "positions", "allowed: a list"),
    ("accept", None, "allowed: a list"),
    ("accept", [5], "allowed: a list of texts"),
    ("notice", 5, "allowed: text"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), ODD)
def test_a_value_of_another_kind_or_out_of_range_is_refused_by_name(
    tmp_path: Path, name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.model\.json: {name} is .*; {allowed}"):
        said(tmp_path, **{name: value})


def test_every_field_is_refused_in_some_way() -> None:
    assert {name for name, _, _ in ODD} == set(ModelFile.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("stop", "abc", "allowed: a list"),
        ("stop", [5], "allowed: a list of texts"),
        ("stop", [""], "allowed: up to 4 strings"),
        ("stop", None, "allowed: a list"),
        ("temperature", "0", "allowed: a whole number or a number or null"),
        ("temperature", 3, "allowed: 0.0 to 2.0"),
        ("temperature", float("nan"), "allowed: 0.0 to 2.0"),
        ("max_tokens", 1.5, "allowed: a whole number or null"),
        ("max_tokens", True, "allowed: a whole number or null"),
        ("top_p", [], "allowed: a whole number or a number or null"),
        ("top_k", "5", "allowed: a whole number or null"),
        ("repetition_penalty", 0, "allowed: 0.01 to 10.0"),
        ("seed", {}, "allowed: a whole number or null"),
    ],
)
def test_a_default_that_no_request_could_ask_for_is_refused(
    tmp_path: Path, name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.model\.json: in defaults, {name} is .*; {allowed}"):
        said(tmp_path, defaults={name: value})


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
        ("instructblip", -1, "video-chatgpt_v1", "patches_cls"),
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
    values = {"entry": entry, "pooling": pooling, "qformer": qformer}
    if is_right:
        assert said(tmp_path, **values).entry == entry
        return
    with pytest.raises(
        CheckpointError, match=f"entry is '{entry}' and pooling '{pooling}'; allowed with it: "
    ):
        said(tmp_path, **values)


def test_a_file_nested_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.model.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"a\.model\.json: not a readable JSON file"):
        read(tmp_path / "a.model.json")
