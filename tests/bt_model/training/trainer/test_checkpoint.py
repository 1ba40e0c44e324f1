"""Training checkpoints: whole or not there, and only those of the same run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bt_model.errors import CheckpointError
from bt_model.training.trainer.checkpoint import Checkpoints, restore, save_atomically


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save_atomically(path, {"step": 1})
    unpicklable: Callable[[], None] = lambda: None  # noqa: E731 - torch cannot save it
    with pytest.raises(AttributeError):
        save_atomically(path, {"step": unpicklable})
    assert torch.load(path, weights_only=True) == {"step": 1}


def test_steps_are_those_of_the_name_alone(tmp_path: Path) -> None:
    for name in ("fit", "fit-2"):
        Checkpoints(tmp_path, name).write(7, {})
    save_atomically(tmp_path / "fit-x.ckpt", {})
    assert Checkpoints(tmp_path, "fit").steps() == [7]


def test_a_damaged_checkpoint_is_refused_by_its_name(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "fit")
    checkpoints.path(3).write_bytes(b"no zip")
    with pytest.raises(CheckpointError, match=r"fit-00000003\.ckpt: not a readable"):
        checkpoints.read(3)


@pytest.mark.parametrize("other", [nn.Linear(3, 2), nn.Linear(2, 2, bias=False)])
def test_a_checkpoint_of_another_module_is_refused(other: nn.Module) -> None:
    with pytest.raises(CheckpointError, match=r"a.ckpt: not a checkpoint of this run; .* (weight|bias)"):
        restore(nn.Linear(2, 2), other.state_dict(), "a.ckpt")
