"""Training checkpoints: unsharded tensors, whatever the number of processes, written atomically.

A file holds plain numbers and CPU tensors. With FSDP every tensor is gathered before it is written and cut
again after it is read, so a run may go on with another number of processes, or with DDP.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn


def save_atomically(path: Path, payload: Mapping[str, Any]) -> None:
    """Write a training checkpoint so that a crash leaves the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(dict(payload), file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the rename survives a power cut
    finally:
        os.close(folder)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a checkpoint holds of the modules that learn, by part; `where` names its file."""

    steps: int
    modules: "Mapping[str, Mapping[str, Tensor]]"
    where: str

    def fill(self, modules: "Mapping[str, nn.Module]") -> None:
        """Restore modules by part.

        Raises:
            CheckpointError: it lacks a part, or holds other tensors.
        """
        for part, module in modules.items():
            restore(module, self.modules.get(part, {}), self.where)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints NAME-STEP.ckpt of one run in a folder; only the last `keep` are kept."""

    folder: Path
    name: str
    keep: int = 1

    def steps(self) -> list[int]:
        """Steps with a checkpoint, ascending."""
        pattern = re.compile(rf"{re.escape(self.name)}-(\d+)\.ckpt")
        found = (pattern.fullmatch(path.name) for path in self.folder.glob(f"{self.name}-*.ckpt"))
        return sorted(int(match[1]) for match in found if match is not None)

    def path(self, step: int) -> Path:
        return self.folder / f"{self.name}-{step:08d}.ckpt"

    def write(self, step: int, payload: Mapping[str, Any]) -> None:
        """Write one, then remove the oldest ones."""
        save_atomically(self.path(step), payload)
        for old in self.steps()[: -self.keep]:
            self.path(old).unlink()

    def read(self, step: int) -> dict[str, Any]:
        """Raises CheckpointError: a file that cannot be read."""
        path = self.path(step)
        try:
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except Exception as error:  # torch raises whatever its zip and pickle readers raise
            raise CheckpointError(f"{path}: not a readable training checkpoint ({error})") from error


def last_learnt(work: Path, name: str) -> Learnt:
    """The modules of the last checkpoint of a run.

    Raises:
        CheckpointError: there is none yet, or one that cannot be read.
    """
    checkpoints = Checkpoints(work, name)
    steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(f"{work}: the run has no checkpoint yet")
    return Learnt(steps[-1], checkpoints.read(steps[-1])["modules"], str(checkpoints.path(steps[-1])))


def gathered(tree: Any, *, keep: bool = True) -> Any:
    """A state dict with every tensor whole and on the CPU.

    All ranks must call it, since each holds a shard; ranks without `keep` get an empty result.
    """
    if isinstance(tree, torch.Tensor):
        whole = tree.full_tensor() if isinstance(tree, DTensor) else tree
        return whole.detach().cpu() if keep else None
    if isinstance(tree, Mapping):
        items = cast("Mapping[Any, Any]", tree).items()
        return {key: gathered(value, keep=keep) for key, value in items}
    if isinstance(tree, list | tuple):
        listed = cast("list[Any]", tree)
        return [gathered(value, keep=keep) for value in listed]
    return tree


def restore(module: "nn.Module", state: "Mapping[str, Tensor]", where: str) -> None:
    """Fill a module, sharded or not, from whole tensors.

    Raises:
        CheckpointError: other tensors than the module's.
    """
    mine = module.state_dict()
    wrong = sorted(
        {name for name, tensor in mine.items() if name not in state or state[name].shape != tensor.shape}
        | (set(state) - set(mine))
    )
    if wrong:
        raise CheckpointError(f"{where}: not a checkpoint of this run; it differs in {', '.join(wrong[:5])}")
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(_cut(state[name], tensor))


def restore_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Fill an optimiser over sharded or whole parameters from whole tensors."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    cut = {
        number: {key: _cut(value, parameters[number]) for key, value in values.items()}
        for number, values in state["state"].items()
    }
    optimiser.load_state_dict({"state": cut, "param_groups": state["param_groups"]})


def _cut(whole: "Tensor", like: "Tensor") -> "Tensor":
    """This rank's part of a tensor that is spread as `like` is; a counter has another shape and is whole."""
    if not isinstance(like, DTensor) or whole.shape != like.shape:
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
