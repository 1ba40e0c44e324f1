"""Adapters of one model by their names, without a server: ask, frames, tokens, models."""

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_hook

from bt_model.vision.clip import ClipVisionTower
from btchat.cli import main
from tests import tiny
from tests.clips import write_clip

OWN, PRETRAINED, NONE = tiny.MODEL, f"{tiny.MODEL}@pretrained", f"{tiny.MODEL}@none"
QUESTION = "which way does it move?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tmp_path_factory.mktemp("weights")
    tiny.write_model_folder(weights, with_adapters=True)
    return weights


@pytest.fixture
def options(folder: Path) -> list[str]:
    return ["--weights-dir", str(folder), "--device", "cpu"]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4"))


@pytest.fixture
def passes() -> Iterator[list[str]]:
    """One entry for each pass through a frozen tower."""
    seen: list[str] = []

    def note(module: object, *_: Any) -> None:
        if isinstance(module, ClipVisionTower):
            seen.append("pass")

    handle = register_module_forward_hook(note)
    yield seen
    handle.remove()


def asked(video: str, *more: str) -> list[str]:
    return ["ask", video, QUESTION, "--max-tokens", "12", *more]


def test_adapters_are_compared_from_one_pass_and_answer_as_each_does_alone(
    video: str, options: list[str], passes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = (PRETRAINED, OWN, NONE)
    assert main(asked(video, "--model", ",".join(names), "--json", *options)) == 0
    assert passes == ["pass"]
    told = json.loads(capsys.readouterr().out)["answers"]
    assert [answer["model"] for answer in told] == list(names)
    assert len({answer["text"] for answer in told}) == 3
    assert len({answer["receipt"]["fingerprint"] for answer in told}) == 3
    for answer in told:
        assert main(asked(video, "--model", answer["model"], *options)) == 0
        assert capsys.readouterr().out == f"{answer['text']}\n"


def test_the_answers_stand_below_each_other(
    video: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(video, "--model", OWN, "--model", NONE, *options)) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{OWN}\n  ")
    assert f"\n{NONE}\n  " in said.out
    assert "With the adapter none in the place of the model's own" in said.err


def test_a_model_may_be_a_path_before_its_adapter(
    video: str, folder: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "tiny" / f"{tiny.MODEL}.model.json"
    assert main(asked(video, "--model", f"{path}@none", "--json", *options)) == 0
    assert json.loads(capsys.readouterr().out)["model"] == NONE


def test_tokens_are_the_adapters_own(
    video: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (OWN, NONE):
        output = tmp_path / f"{name}.safetensors"
        assert main(["tokens", video, "-o", str(output), "--model", name, *options]) == 0
    own, none = (load_file(tmp_path / f"{name}.safetensors")["tokens"] for name in (OWN, NONE))
    assert own.shape == none.shape
    assert not own.equal(none)


def test_frames_are_those_that_the_adapter_takes(
    video: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The branch takes no odd number above its own; without one any is taken."""
    counts: list[int] = []
    for name in (OWN, NONE):
        assert main(["frames", video, "--num-frames", "11", "--model", name, "--json", *options]) == 0
        counts.append(json.loads(capsys.readouterr().out)["num_frames"])
    assert counts == [10, 11]


def test_a_dialogue_asks_the_adapter_of_a_server_of_its_own(
    video: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tmp_path / "dialogue.json"
    monkeypatch.setattr("sys.stdin", StringIO(f"{QUESTION}\n/save {saved}\n"))
    monkeypatch.setattr("btchat.commands.chat._end_on_hangup", lambda: None)  # signals are the process's
    assert main(["chat", video, "--model", NONE, "--max-tokens", "12", *options]) == 0
    assert [answer["model"] for answer in json.loads(saved.read_text())["answers"]] == [NONE]


@pytest.mark.parametrize("command", [["ask", "VIDEO", "q"], ["frames", "VIDEO"], ["chat", "VIDEO"]])
def test_an_adapter_that_is_none_is_told_the_others(
    command: list[str], video: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [video if each == "VIDEO" else each for each in command]
    assert main([*arguments, "--model", f"{OWN}@nobody", *options]) == 1
    said = capsys.readouterr().err
    assert f"model is '{OWN}@nobody'; with other adapters of {OWN} there are: {PRETRAINED}, {NONE}" in said


@pytest.mark.parametrize("command", [["frames", "VIDEO"], ["tokens", "VIDEO", "-o", "a"], ["chat", "VIDEO"]])
def test_what_looks_with_one_model_takes_one(
    command: list[str], video: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [video if each == "VIDEO" else each for each in command]
    assert main([*arguments, "--model", f"{OWN},{NONE}", *options]) == 1
    assert f"model is '{OWN},{NONE}'; allowed: one name" in capsys.readouterr().err


def test_adapters_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--weights-dir", str(folder)]) == 0
    assert f"  beside it  {PRETRAINED}, {NONE}\n" in capsys.readouterr().out
    assert main(["models", "--weights-dir", str(folder), "--json"]) == 0
    told = {each["id"]: each["adapters"] for each in json.loads(capsys.readouterr().out)["models"]}
    assert told[OWN] == [PRETRAINED, NONE]
