"""What `btchat weights` says while it works."""

from pathlib import Path

import pytest
import torch

from btchat.cli import main
from btchat.commands.weights import commands


def test_a_long_conversion_says_how_far_it_is_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a.weight": torch.zeros(2), "b.weight": torch.zeros(2)}, tmp_path / "a.bin")
    monkeypatch.setattr(commands, "_LINE_SECONDS", 0.0)
    out = tmp_path / "out"
    assert main(["weights", "convert", str(tmp_path / "a.bin"), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["1 tensors, the last a.weight", "2 tensors, the last b.weight"]
    assert captured.out.startswith(f"{out}: 2 tensors")
