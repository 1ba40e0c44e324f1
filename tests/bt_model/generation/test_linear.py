"""Linear layers of a step: equal to torch's, and for every row to the bit whatever stands beside it."""

import pytest
import torch
from torch import nn

from bt_model.generation import linear
from bt_model.generation.linear import MIN_ROWS, PackedLinear, merge

INPUTS = 96


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("is_packed", [False, True])
def test_merged_layers_give_what_each_gives(
    bias: bool, is_packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_packed and not linear.packing_pays():
        pytest.skip("matrices are not packed on this machine")
    monkeypatch.setattr(linear, "packing_pays", lambda: is_packed)
    torch.manual_seed(0)
    layers = [nn.Linear(INPUTS, width, bias=bias) for width in (96, 32, 32)]
    rows = torch.randn(7, INPUTS)
    with torch.inference_mode():
        expected = torch.cat([layer(rows) for layer in layers], dim=1)
        merged = merge(layers, keep=False)
        torch.testing.assert_close(merged(rows), expected, atol=1e-5, rtol=0)
    assert type(merged) is (PackedLinear if is_packed else linear.PlainLinear)


@pytest.mark.parametrize("outputs", [96, 160, 61])
@torch.inference_mode()
def test_a_row_with_a_bias_is_the_same_to_the_bit_among_any_number(outputs: int) -> None:
    if not linear.packing_pays():
        pytest.skip("matrices are not packed on this machine")
    generator = torch.Generator().manual_seed(1)
    packed = PackedLinear(
        torch.randn(outputs, INPUTS, generator=generator), torch.randn(outputs, generator=generator)
    )
    rows = torch.randn(130, INPUTS, generator=generator)
    whole = packed(rows)
    for count in (MIN_ROWS, 3, 4, 5, 7, 8, 16, 31, 64, 129):
        assert torch.equal(packed(rows[:count]), whole[:count]), count
