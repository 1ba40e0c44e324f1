"""What waits for the backward pass, counted by hand."""

import torch
from torch import nn

from bt_model.training.trainer.cost import kept_bytes

N, D = 8, 4
FLOAT = 4  # bytes


def test_a_linear_layer_keeps_its_input_and_not_its_weight() -> None:
    layer, x = nn.Linear(D, D), torch.randn(N, D)
    assert kept_bytes(lambda: layer(x), layer.parameters()) == N * D * FLOAT


def test_views_of_one_memory_count_once() -> None:
    layer, x = nn.Linear(D, D), torch.randn(N, D)
    assert kept_bytes(lambda: layer(x) + layer(x.flip(0).flip(0)) + layer(x[:]), layer.parameters()) == (
        2 * N * D * FLOAT  # the flipped copy is a memory of its own
    )


def test_nothing_is_kept_where_nothing_learns() -> None:
    layer = nn.Linear(D, D).requires_grad_(requires_grad=False)
    assert kept_bytes(lambda: layer(torch.randn(N, D)), layer.parameters()) == 0
