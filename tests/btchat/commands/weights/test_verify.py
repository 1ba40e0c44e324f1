"""`btchat weights convert`, `verify` and `list`, as commands."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from btchat.cli import main
from tests.btchat.commands.weights.hub import pickled


def test_the_command_converts_and_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickled(tmp_path)
    out = tmp_path / "models" / "projection.safetensors"
    out.parent.mkdir()
    assert main(["weights", "convert", str(tmp_path / "p.bin"), "--out", str(out)]) == 0
    assert "2 tensors" in capsys.readouterr().out
    assert main(["weights", "verify", str(out.parent)]) == 0
    assert "2 tensors, all readable and finite" in capsys.readouterr().out
    save_file({"w": torch.tensor([torch.nan])}, out.parent / "bad.safetensors")
    assert main(["weights", "verify", str(out.parent)]) == 1
    assert "w holds a number that is not finite" in capsys.readouterr().err


def test_the_embedded_weights_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "verify", "embedded"]) == 0
    assert "adapter is a retrieval checkpoint" in capsys.readouterr().out


def test_the_list_says_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    assert "bt-adapter  (0 of 2 parts here, at least 2.2 GB)" in capsys.readouterr().out
