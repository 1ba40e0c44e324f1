"""Arithmetic counted, and what devices can do."""

import pytest
import torch
from torch import nn

from bt_model.training.settings import Precision
from bt_model.training.trainer.cost import count_flops, measured_peak, table_peak

GPUS: list[tuple[str, Precision, float | None]] = [
    ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4e12),
    ("NVIDIA H100 PCIe", "bfloat16", 756e12),
    ("NVIDIA H200", "float16", 989.4e12),
    ("NVIDIA A100-SXM4-40GB", "bfloat16", 312e12),
    ("Tesla V100-SXM2-32GB", "float32", 15.7e12),
    ("NVIDIA L4", "float16", 121e12),
    ("NVIDIA L40S", "float16", 362e12),
    ("Tesla V100-SXM2-32GB", "bfloat16", None),  # it has none
    ("Radeon", "float16", None),
]


def test_a_linear_layer_counts_three_products_when_it_learns() -> None:
    """Forwards, and backwards once for its weight and once for its input."""
    layer, x = nn.Linear(8, 16, device="meta"), torch.empty(4, 8, device="meta", requires_grad=True)
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * 2 * 4 * 8 * 16


@pytest.mark.parametrize(("name", "precision", "peak"), GPUS)
def test_a_gpu_is_known_by_its_name(name: str, precision: Precision, peak: float | None) -> None:
    assert table_peak(name, precision) == peak


def test_the_peak_of_a_cpu_is_measured() -> None:
    assert 1e8 < measured_peak(torch.device("cpu"), "float32") < 1e13
