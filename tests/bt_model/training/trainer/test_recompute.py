"""Activations that are computed twice."""

import torch
from torch.autograd.graph import saved_tensors_hooks

from bt_model.training.trainer.optimiser import recompute
from bt_model.training.trainer.parallel import UNITS
from tests.bt_model.training.ranks import fresh_step, gradients, whole_batch


def test_what_is_computed_twice_gives_the_same_gradients() -> None:
    found = list[dict[str, torch.Tensor]]()
    for is_twice in (False, True):
        step = fresh_step()
        if is_twice:
            recompute(step.encoder, UNITS)
        torch.stack(list(step(whole_batch()).values())).sum().backward()
        found.append(gradients(step))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[1][name], gradient) for name, gradient in found[0].items())


def test_what_is_computed_twice_is_not_kept() -> None:
    kept = list[int]()
    for is_twice in (False, True):
        step, num_bytes = fresh_step(), list[int]()
        if is_twice:
            recompute(step.encoder, UNITS)

        def note(x: torch.Tensor, sizes: list[int] = num_bytes) -> torch.Tensor:
            sizes.append(x.nbytes)
            return x

        with saved_tensors_hooks(note, lambda x: x):
            step(whole_batch())
        kept.append(sum(num_bytes))
    assert kept[1] < 0.5 * kept[0]
