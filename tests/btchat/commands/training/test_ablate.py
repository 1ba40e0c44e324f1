"""`btchat train ablate` says what is wrong in one line, before anything is trained."""

from pathlib import Path

import pytest

from btchat.cli import main
from btchat.commands.training import ablate


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--workers", "0"], "workers is 0; allowed: 1 or more"),
        (["--rows", "nope"], "row is 'nope'; allowed: clip, bt-adapter"),
        (["--page-only"], "has no results of clip, bt-adapter, vtc"),
    ],
)
def test_what_cannot_be_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    out = tmp_path / "page.md"
    assert main(["train", "ablate", "--work", str(tmp_path), "--out", str(out), *flags]) != 0
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_the_page_needs_is_asked_for_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablate, "find_spec", lambda _name: None)
    assert main(["train", "ablate", "--work", str(tmp_path)]) != 0
    assert "pip install 'btchat[train]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    for command in (["ablate", "--list"], ["pretrain", "--dry-run"]):
        assert main(["train", *command, "--work", str(file)]) == 2
        said = capsys.readouterr().err
        assert "--work" in said
        assert f"{file} is a file; allowed: a folder" in said


def test_rows_are_listed_with_what_has_been_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "ablate" / "results"
    results.mkdir(parents=True)
    (results / "vtc-1.npz").touch()
    assert main(["train", "ablate", "--work", str(tmp_path), "--rows", "clip", "vtc", "--list"]) == 0
    clip, vtc = capsys.readouterr().out.splitlines()
    assert clip.startswith("clip ")
    assert clip.endswith("seeds done: -")
    assert vtc.endswith("seeds done: 1")
