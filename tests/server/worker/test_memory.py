"""What is free for models on the CPU: of the machine, and of the container."""

from pathlib import Path

import pytest
import torch

from server.worker.memory import container_bytes, free_bytes, machine_bytes


def test_the_kernels_figure_is_read(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  64 kB\nMemFree:  1 kB\nMemAvailable:     32 kB\n")
    assert machine_bytes(file) == 32 * 1024


def write_group(folder: Path, most: str, used: int, cached: int) -> Path:
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")
    return folder


def test_a_containers_limit_counts_without_what_is_only_cached(tmp_path: Path) -> None:
    assert container_bytes(write_group(tmp_path, "1000", 700, 200)) == 500


@pytest.mark.parametrize("most", ["max", "rubbish"])
def test_a_container_without_a_limit_is_no_bound(tmp_path: Path, most: str) -> None:
    assert container_bytes(write_group(tmp_path, most, 700, 200)) == float("inf")
    assert container_bytes(tmp_path / "none") == float("inf")


def test_this_machine_has_memory() -> None:
    assert free_bytes(torch.device("cpu")) > 1 << 20
