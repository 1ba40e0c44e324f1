"""Losses over several ranks have the gradient of one process that has the whole batch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bt_model.training.objectives.contrastive import Gather, LossWeights
from tests.bt_model.training.ranks import (
    EQUAL,
    fresh_step,
    gradients,
    run_ranks,
    whole_batch,
    write_gradients,
)

pytestmark = pytest.mark.usefixtures("forked_ranks")


def alone(weights: LossWeights = EQUAL) -> dict[str, Tensor]:
    step = fresh_step(weights=weights)
    torch.stack(list(step(whole_batch()).values())).sum().backward()
    return gradients(step)


def together(out: Path, size: int, mode: Gather) -> dict[str, Tensor]:
    run_ranks(write_gradients, size, out, mode)
    return torch.load(out, weights_only=True)


@pytest.mark.parametrize("size", [2, 4])
def test_the_gradient_of_several_processes_is_that_of_one(tmp_path: Path, size: int) -> None:
    expected, found = alone(), together(tmp_path / "gradients", size, "exact")
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=2e-6, msg=name)


def test_as_published_the_contrastive_losses_count_one_over_the_number_of_processes(tmp_path: Path) -> None:
    expected = alone(LossWeights(0.5, 1.0, 0.5))
    found = together(tmp_path / "gradients", 2, "published")
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=2e-6, msg=name)
