"""Activations that are computed a second time on the way back instead of being kept."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bt_model.training.precision import plain_attention


def recompute(module: nn.Module, units: tuple[type[nn.Module], ...]) -> None:
    """From now on, only the inputs of these kinds of modules are kept for the backward pass.

    Their outputs and gradients stay what they are: dropout draws the same again. Call it before the module
    is spread over processes.
    """
    for unit in module.modules():
        if isinstance(unit, units):
            unit.forward = partial(checkpoint, unit.forward, use_reentrant=False, context_fn=_contexts)


def _contexts() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """Of the forward pass and of its repetition, which must take the attention that `multiplying_in` took."""
    is_plain = torch.is_autocast_enabled("cpu")
    return nullcontext(), plain_attention() if is_plain else nullcontext()
