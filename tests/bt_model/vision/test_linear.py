"""The towers' linear layers: oneDNN's operator where they serve, torch's own where they learn."""

import pytest
import torch

from bt_model.vision import linear
from bt_model.vision.linear import Linear


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of the rows that the operator has multiplied."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    shapes: list[torch.Size] = []

    def multiply(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        shapes.append(rows.shape)
        return original(rows, weight, bias)

    original = linear._onednn  # pyright: ignore[reportPrivateUsage] - what is watched
    monkeypatch.setattr(linear, "_onednn", multiply)
    monkeypatch.setattr(linear, "onednn_pays", lambda: True)
    return shapes


@pytest.mark.parametrize("shape", [(1, 5), (2, 3, 5), (4, 0, 5)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_it_serves_by_the_operator_and_gives_the_same(
    shape: tuple[int, ...], bias: bool, used: list[torch.Size]
) -> None:
    layer, x = Linear(5, 7, bias=bias), torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    assert used == [torch.Size(shape)]


def test_what_is_strided_is_made_whole_first(used: list[torch.Size]) -> None:
    layer, x = Linear(5, 7), torch.randn(5, 6).T
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    assert used


def test_it_learns_by_torchs_own(used: list[torch.Size]) -> None:
    layer = Linear(5, 7)
    layer(torch.randn(2, 5)).sum().backward()
    with torch.no_grad():  # as frozen towers are trained beside
        layer(torch.randn(2, 5))
    with torch.inference_mode():
        layer.bfloat16()(torch.randn(2, 5, dtype=torch.bfloat16))
    assert layer.weight.grad is not None
    assert not used


def test_where_the_operator_is_missing_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> torch.Tensor:
        raise AttributeError("no such operator")

    monkeypatch.setattr(linear, "_onednn", missing)
    linear.onednn_pays.cache_clear()
    assert not linear.onednn_pays()
    linear.onednn_pays.cache_clear()
