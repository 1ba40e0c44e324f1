"""Learning rates by name."""

import pytest
from torch import nn

from bt_model.errors import InvalidValueError
from bt_model.training.trainer.optimiser import parameter_groups, rule_of


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("adapter.temporal.0.self_attn.q_proj.weight", "adapter.temporal"),
        ("adapter.balance1", "balance1"),
        ("adapter.cls_token", "adapter"),
        ("head.weight", "base"),
    ],
)
def test_the_longest_rule_decides(name: str, rule: str) -> None:
    assert rule_of(name, {"adapter": 1, "adapter.temporal": 2, "balance": 3, "balance1": 4}) == rule


def test_of_rules_of_one_length_the_first_by_alphabet_decides() -> None:
    assert rule_of("adapter.balance1", {"balance": 1, "adapter": 2}) == "adapter"


def test_frozen_parameters_are_in_no_group() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad = False
    (group,) = parameter_groups({"adapter": layer}, 0.5, {"adapter": 4.0})
    assert group["name"] == "adapter"
    assert group["lr"] == 2.0
    assert [p is layer.weight for p in group["params"]] == [True]


def test_a_rule_that_fits_no_name_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"optimiser.rates has 'temporl'; allowed: .*adapter\.bias"):
        parameter_groups({"adapter": nn.Linear(2, 2)}, 1.0, {"temporl": 10.0})
