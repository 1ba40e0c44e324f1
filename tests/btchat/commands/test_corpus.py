import json
import re
from pathlib import Path

import pytest

from bt_model.video.decode import probe
from btchat.cli import main


def test_corpus_make_writes_a_corpus_and_sums_it_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--clips", "2", "--test-clips", "2", "--side", "32", "--kinds", "move", "order"]
    assert main(["corpus", "make", "--out", str(tmp_path / "c"), *arguments]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert re.search(r"^clips 6/6 test_\w+, 0:00:00 left$", captured.err, flags=re.M)
    assert any(line.split()[:2] == ["2", "train/webvid/results_2M_train.csv"] for line in lines)
    assert lines[-1] == f"{tmp_path / 'c' / 'manifest.json'} names every file"
    assert len(list((tmp_path / "c" / "train" / "clips").glob("*.mp4"))) == 2


def test_corpus_make_refuses_a_kind_that_it_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["corpus", "make", "--out", str(tmp_path), "--kinds", "fly"]) == 1
    assert capsys.readouterr().err.startswith("btchat: kinds is 'fly'; allowed: some of move, pace")
    assert not list(tmp_path.iterdir())


def test_corpus_film_writes_a_film_and_says_when_its_events_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "film.mp4"
    arguments = ["--events", "4", "--seconds", "30", "--side", "32", "--twins"]
    assert main(["corpus", "film", "--out", str(film), *arguments]) == 0
    assert capsys.readouterr().out == f"4 events in 30 s: {film} and {tmp_path / 'film.json'}\n"
    assert probe(film).seconds == pytest.approx(30.0, abs=0.6)
    assert len(json.loads((tmp_path / "film.json").read_text())["events"]) == 4


def test_corpus_film_refuses_events_without_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "film", "--out", str(tmp_path / "a.mp4"), "--events", "4", "--seconds", "20"]) == 1
    assert capsys.readouterr().err.startswith("btchat: seconds is 20.0; allowed: 24 or more for 4 events")
    assert not list(tmp_path.iterdir())
