"""Activations that are computed a second time on the way back instead of being kept."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, units: tuple[type[nn.Module], ...]) -> None:
    """From now on, only the inputs of these kinds of modules are kept for the backward pass.

    Their outputs and gradients stay what they are: dropout draws the same again. Call it before the module
    is spread over processes.
    """
    for unit in module.modules():
        if isinstance(unit, units):
            unit.forward = partial(checkpoint, unit.forward, use_reentrant=False)
