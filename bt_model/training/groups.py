"""Which rate each parameter learns at: the longest matching name decides, as published (spec 1.2)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bt_model.errors import InvalidValueError

if TYPE_CHECKING:
    from torch import nn

BASE = "base"
ADAM_BYTES = 16  # a learning parameter: itself, gradient, two moments, all float32


def rule_of(name: str, rates: Mapping[str, float]) -> str:
    """The rule for a parameter: the longest that its name contains, of equal ones the first by alphabet."""
    return min((rule for rule in rates if rule in name), key=lambda rule: (-len(rule), rule), default=BASE)


def parameter_groups(
    learning: "Mapping[str, nn.Module]", rate: float, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """AdamW's groups, one a rule that is used; parameters are named `<part>.<name>` (checkpoints/keys.py).

    Raises:
        InvalidValueError: a rule that no parameter's name contains.
    """
    named = {
        f"{part}.{name}": parameter
        for part, module in learning.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }
    unused = [rule for rule in rates if not any(rule in name for name in named)]
    if unused:
        allowed = sorted({".".join(name.split(".")[:2]) for name in named})
        raise InvalidValueError(
            f"optimiser.rates has {unused[0]!r}; allowed: part of a name, {', '.join(allowed)}",
            param="optimiser.rates",
        )
    factors = {BASE: 1.0, **rates}
    by_rule: dict[str, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        by_rule.setdefault(rule_of(name, rates), []).append(parameter)
    return [{"name": rule, "params": found, "lr": rate * factors[rule]} for rule, found in by_rule.items()]


def described(groups: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How many parameters each group has, and its rate."""
    return {
        group["name"]: {"parameters": sum(p.numel() for p in group["params"]), "rate": group["lr"]}
        for group in groups
    }
