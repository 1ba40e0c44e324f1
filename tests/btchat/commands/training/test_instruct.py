"""`btchat train instruct` and `features`, as typed, and asking the result."""

import json
from pathlib import Path
from typing import Any

import pytest

from btchat.cli import main
from tests.bt_model.training.videos import Videos, write_videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    return write_videos(tmp_path_factory.mktemp("videos"))


def dry(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["train", "instruct", "--dry-run", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def config(videos: Videos, folder: Path) -> str:
    """A small run as a TOML file."""
    path, root = folder / "run.toml", videos.export / "videos"
    path.write_text(
        f"""
        model.base = "{videos.base()}"
        data = {{ annotations = ["{videos.pairs}"], root = "{root}", frames = 4, workers = 1 }}
        optimiser = {{ batch = 4, rate = 1e-3 }}
        run = {{ device = "cpu", steps = 3 }}
        """
    )
    return str(path)


def test_a_model_is_tuned_and_asked_as_typed(
    videos: Videos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed, work = ["--config", config(videos, tmp_path)], str(tmp_path / "work")
    assert main(["train", "instruct", *typed, "--work", work, "--set", "learn.lora_rank=2"]) == 0
    model = capsys.readouterr().out.splitlines()[-1]
    assert model == f"{work}/model"
    asked = ["what happens?", "--model", model, "--device", "cpu", "--max-tokens", "4"]
    assert main(["ask", str(videos.files[0]), *asked]) == 0
    assert capsys.readouterr().out.strip()


def test_features_are_written_and_used_as_typed(
    videos: Videos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--config", config(videos, tmp_path), "--set", f"data.features={tmp_path / 'features'}"]
    assert main(["train", "features", *typed]) == 0
    assert "6 videos written, 0 not readable" in capsys.readouterr().out
    typed += ["--set", "data.root=nowhere", "--set", "run.steps=1"]
    assert main(["train", "instruct", *typed, "--work", str(tmp_path / "work")]) == 0


def test_a_dry_run_counts_what_is_there_and_writes_nothing(
    videos: Videos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--config", config(videos, tmp_path), "--work", str(tmp_path / "work")]
    told = dry(capsys, *typed, "--preset", "published", "--set", "run.precision=float32")
    assert told["dialogues"]["read"] == told["dialogues"]["used"] == len(json.loads(videos.pairs.read_text()))
    assert told["steps"] == 3 * (told["dialogues"]["used"] // 4)
    assert told["assumed"] == []
    assert (told["settings"]["learn"]["tokens"], told["settings"]["optimiser"]["rate"]) == (True, 1e-3)
    assert not (tmp_path / "work").exists()


def test_without_weights_and_data_the_published_ones_are_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    told = dry(capsys, "--preset", "paper", "--set", "model.weights=nowhere", "--set", "model.base=nothing")
    assert len(told["assumed"]) == 2
    assert told["steps"] == 75_006


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "best"], "preset is 'best'; allowed: paper, published"),
        (["--set", "learn.lora=2"], "learn.lora is not known; allowed: projector, temporal"),
        (
            ["--set", "model.base=nothing", "--set", "model.weights=weights"],
            "model is 'nothing'; built in and under weights there are:",
        ),
        (
            ["--set", "model.base=no/llava-v1/llava-v1.model.json"],
            "; `btchat weights fetch llava-v1` brings it",
        ),
        (["--dry-run", "--devices", "0"], "devices is 0; allowed: 1 or more"),
        (["--dry-run", "--devices", "-2"], "devices is -2; allowed: 1 or more"),
    ],
)
def test_what_is_wrong_is_told_by_name(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "instruct", *arguments, "--work", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_model_is_found_by_name_from_any_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = dry(capsys, "--set", "model.base=embedded")
    assert not [each for each in told["assumed"] if "embedded" in each]


def test_a_run_that_cannot_begin_leaves_its_folder_to_another(
    videos: Videos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    typed = ["--config", config(videos, tmp_path), "--work", str(work)]
    assert main(["train", "instruct", *typed, "--set", "data.root=nowhere"]) == 1
    assert "data.root is 'nowhere'; allowed: a folder with the videos" in capsys.readouterr().err
    assert not work.exists()
