"""The benchmark for a GPU, as far as a CPU can run it."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu

PARTS = {
    "device", "kernels", "quantised", "encode", "decode_1", "decode_3", "prefill", "engine", "seconds",
}  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    assert gpu.main() == 1
    assert capsys.readouterr() == ("", "no CUDA device here; --tiny tries the same code on a CPU\n")


def test_every_part_runs_at_toy_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["gpu", "--tiny", "--json", str(file)])
    assert gpu.main() == 0
    figures = json.loads(file.read_text())
    assert set(figures) == PARTS
    assert figures["kernels"]["are_right"]
    for part in ("decode_1", "decode_3", "prefill"):
        assert figures[part]["ratio"] == pytest.approx(figures[part]["achieved"] / figures[part]["ceiling"])
    assert figures["engine"]["known_video_first_token_ms"] > 0
