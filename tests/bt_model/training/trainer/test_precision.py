"""What runs in bfloat16 and what does not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bt_model.training.objectives.contrastive import contrastive, token_alignment
from bt_model.training.trainer.optimiser import multiplying_in, native_precision
from bt_model.vision.attention import MultiHeadAttention


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_only_products_change_their_format() -> None:
    layer = nn.Linear(6, 4)
    with multiplying_in("bfloat16"):
        low = layer(noise(3, 6))
    with multiplying_in("float32"):
        full = layer(noise(3, 6))
    assert (low.dtype, full.dtype, layer.weight.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    low.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_gradients_of_attention_agree_with_float32() -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(16, 2)
    gradients = list[Tensor]()
    for precision in ("float32", "bfloat16"):
        attention.zero_grad()
        with multiplying_in(precision):
            loss = attention(noise(4, 9, 16)).float().square().mean()
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in attention.parameters() if p.grad is not None]))
    difference = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert 0 < difference < 0.02


@pytest.mark.parametrize(
    "loss",
    [
        lambda: contrastive(noise(8, 32), noise(8, 32, seed=1)),
        lambda: token_alignment(noise(2, 3, 4, 32), noise(2, 3, 4, 32, seed=1)),
    ],
)
def test_losses_do_not_depend_on_the_precision(loss: Callable[[], Tensor]) -> None:
    with multiplying_in("bfloat16"):
        low = loss()
    assert torch.equal(low, loss())


def test_the_native_precision_is_one_of_both() -> None:
    assert native_precision() in {"float32", "bfloat16"}
