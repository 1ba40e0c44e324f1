"""`btchat eval`, as typed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bt_model.evaluation.retrieval import RECALL_AT
from btchat.cli import main

TEXT = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0.1]])
VIDEO = torch.eye(3)


def test_two_files_of_embeddings_and_one_of_scores_tell_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"text": TEXT, "video": VIDEO, "scores": TEXT / TEXT.norm(dim=1, keepdim=True) @ VIDEO.T}
    paths = {name: str(tmp_path / f"{name}.safetensors") for name in files}
    for name, tensor in files.items():
        save_file({name: tensor}, paths[name])
    assert main(["eval", "retrieval", paths["text"], paths["video"]]) == 0
    shown = capsys.readouterr().out
    assert main(["eval", "retrieval", paths["scores"]]) == 0
    assert capsys.readouterr().out == shown
    header, every, _ = (line.split() for line in shown.splitlines())
    assert header == ["ties", *(f"R@{k}" for k in RECALL_AT), "MdR", "MnR"]
    assert (every[:3], every[-2:]) == (["every", "66.67", "100.00"], ["1.00", "1.33"])


def test_both_rules_for_ties_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "a.safetensors")
    save_file({"scores": torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 0, 1]])}, path)
    assert main(["eval", "retrieval", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["every"]["R@1"] == pytest.approx(75)
    assert found["shared"]["R@1"] == pytest.approx(100 * 2.5 / 3)
    assert found["shared"]["MnR"] == pytest.approx(3.5 / 3)


def test_recognition_shows_the_nearest_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "a.safetensors")
    save_file({"video": TEXT, "classes": VIDEO, "labels": torch.tensor([0, 1, 2])}, path)
    assert main(["eval", "recognition", path]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["top-1", "66.67", "%"],
        ["top-5", "100.00", "%"],
    ]


def test_every_clip_needs_a_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "a.safetensors")
    save_file({"video": TEXT, "classes": VIDEO, "labels": torch.tensor([0, 1])}, path)
    assert main(["eval", "recognition", path]) == 1
    assert "labels is (2,); allowed: (3,), as many as videos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"text": TEXT}, "files is 'text'; allowed: files that hold text, video"),
        ({"text": TEXT, "video": VIDEO[:2]}, "scores is (3, 2); allowed: n captions by n videos"),
        (
            {"text": TEXT, "video": VIDEO[:, :2].contiguous()},
            "embeddings is (3, 2); allowed: rows of 3 numbers",
        ),
        ({"scores": torch.full((2, 2), torch.nan)}, "allowed: finite numbers"),
        ({"scores": TEXT[0]}, "scores is (3,); allowed: n captions by n videos"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    tensors: dict[str, torch.Tensor], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "a.safetensors")
    save_file(tensors, path)
    assert main(["eval", "retrieval", path]) == 1
    assert message in capsys.readouterr().err
