"""`btchat train pretrain` and `export`, as typed."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from btchat.cli import main
from tests import tiny
from tests.bt_model.training.clips import Corpus, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def dry(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, dict[str, object]]]:
    assert main(["train", "pretrain", "--dry-run", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def assignments(corpus: Corpus) -> list[str]:
    """A small run on the command line alone."""
    values = {
        "model.clip": str(corpus.clip),
        "model.layers": tiny.K,
        "data.annotations": f'["{corpus.table}"]',
        "data.root": str(corpus.webvid / "videos"),
        "data.frames": 2,
        "data.short_side": 16,
        "optimiser.batch": 4,
        "run.device": "cpu",
        "run.steps": 2,
    }
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def test_the_command_line_stands_above_the_file_and_the_file_above_the_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.toml"
    config.write_text("[optimiser]\nbatch = 32\nrate = 1e-3\n[mask]\nrate = 0.5\n")
    files = ["--preset", "published", "--config", str(config), "--work", str(tmp_path)]
    told = dry(capsys, *files, "--set", "optimiser.batch=16")
    optimiser, mask = told["settings"]["optimiser"], told["settings"]["mask"]
    assert (optimiser["batch"], optimiser["rate"], mask["rate"]) == (16, 1e-3, 0.5)
    assert (mask["layout"], told["settings"]["data"]["tokens"]) == ("published", 64)
    assert len(told["assumed"]) == 2
    assert told["GFLOP per clip"] == 1763


def test_a_dry_run_writes_nothing_but_counts_the_clips_that_are_there(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = dry(capsys, *assignments(corpus), "--work", str(tmp_path / "work"))
    assert told["clips"]["all"] == 12
    assert told["assumed"] == []
    assert not (tmp_path / "work").exists()


def test_a_run_is_trained_and_exported_as_typed(corpus: Corpus, tmp_path: Path) -> None:
    work, out = str(tmp_path / "work"), tmp_path / "out" / "whole.pth"
    assert main(["train", "pretrain", *assignments(corpus), "--work", work]) == 0
    assert main(["train", "export", "--work", work, "--out", str(out), "--with-clip"]) == 0
    names = torch.load(out, weights_only=True)["state_dict"]
    assert {name.partition(".")[0] for name in names} == {"backbone", "text_backbone", "extra_proj"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "best"], "preset is 'best'; allowed: captioned, paper, published, published-eva"),
        (["--set", "mask.rat=0.5"], "mask.rat is not known; allowed: rate, layout"),
        (["--set", "run.precision=float8"], "run.precision is 'float8'; allowed: float32, bfloat16, float16"),
        (["--set", "model.clip=nowhere"], "model.clip is 'nowhere', which is not there\n"),
        (
            ["--preset", "paper", "--set", "model.clip=no/clip-l14/clip"],
            "model.clip is 'no/clip-l14/clip', which is not there; `btchat weights fetch clip-l14` brings it",
        ),
        (
            ["--dry-run", "--preset", "captioned", "--set", f"model.captioner={__file__}"],
            "model.captioner: model is",
        ),
        (["--dry-run", "--devices", "0"], "devices is 0; allowed: 1 or more"),
        (["--dry-run", "--devices", "-3"], "devices is -3; allowed: 1 or more"),
        (["--dry-run", "--rate", "0"], "rate is 0.0; allowed: above 0"),
    ],
)
def test_what_is_wrong_is_told_by_name(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "pretrain", *arguments, "--work", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["data.annotations=['no.csv']", "data.root=nowhere", "model.clip=nowhere"])
def test_a_run_that_cannot_begin_leaves_its_folder_to_another(
    corpus: Corpus, tmp_path: Path, wrong: str
) -> None:
    work = str(tmp_path / "work")
    typed = [*assignments(corpus), "--work", work]
    assert main(["train", "pretrain", *typed, "--set", wrong]) == 1
    assert not (tmp_path / "work").exists()
    assert main(["train", "pretrain", *typed]) == 0


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is here")
def test_without_ray_its_launcher_is_refused_with_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "pretrain", "--launcher", "ray", "--work", str(tmp_path)]) == 1
    assert "pip install 'btchat[ray]'" in capsys.readouterr().err
