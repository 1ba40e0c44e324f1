"""The processes of a run: ranks, collective operations, and how a module is distributed over them.

W processes, each with a device of its own. A single process is a world of one and uses nothing of this.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from bt_model.generation.llama_layers import DecoderLayer
from bt_model.training.settings import Parallel
from bt_model.vision.attention import Mlp, MultiHeadAttention

# tensors in, tensors out: what FSDP shards and what is computed again
UNITS = (MultiHeadAttention, Mlp, DecoderLayer)

_PATIENCE = timedelta(minutes=30)  # a rank may decode, or write a large checkpoint, while others wait


@dataclass(frozen=True, slots=True)
class Rank:
    """The launcher's numbers for this process: its rank, the world size, and its rank on this machine."""

    number: int = 0
    size: int = 1
    local_number: int = 0
    init_method: str = "env://"

    @classmethod
    def from_torchrun(cls, environment: Mapping[str, str]) -> "Rank":
        """This process's rank in the environment that torchrun gives it; a single process without it."""
        return cls(
            int(environment.get("RANK", 0)),
            int(environment.get("WORLD_SIZE", 1)),
            int(environment.get("LOCAL_RANK", 0)),
        )


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of the run, and its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which alone writes files."""
        return self.rank == 0

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes."""
        if self.size == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(together)
        return together.tolist()

    def first_says(self, value: int) -> int:
        """Broadcast: rank 0's value, on all ranks."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.int64, device=self.device)
        dist.broadcast(told, src=0)
        return int(told.item())

    def wait(self) -> None:
        """Barrier over all ranks."""
        if self.size > 1:
            self.sums([0.0])


@contextmanager
def joined(rank: Rank, device: str = "auto") -> Generator[World]:
    """Join the other processes for the length of a block; `device` is auto, cpu, cuda or cuda:N.

    NCCL is used on GPUs, gloo on CPUs, and an existing process group as it is. Modules from `spread` must be
    deleted before the block ends: destroying a group that DDP still uses may hang.
    """
    own = _device(device, rank)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    if rank.size == 1 or dist.is_initialized():
        yield World(rank.number, rank.size, own)
        return
    dist.init_process_group(
        "nccl" if own.type == "cuda" else "gloo", init_method=rank.init_method, rank=rank.number,
        world_size=rank.size, timeout=_PATIENCE,
    )  # fmt: skip
    yield World(rank.number, rank.size, own)
    dist.destroy_process_group()  # not after an error: it could hang; the launcher ends the ranks


def _device(name: str, rank: Rank) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(f"cuda:{rank.local_number}" if name == "cuda" else name)


Synced = Callable[[bool], AbstractContextManager[Any]]


def always_synced(_is_last: bool) -> AbstractContextManager[Any]:
    """A single process has nothing to synchronise."""
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Spread:
    """A distributed module: what to call, and the context in which its gradients are averaged."""

    call: nn.Module
    synced: Synced = always_synced


def spread(
    module: nn.Module,
    world: World,
    mode: Parallel = "ddp",
    *,
    units: tuple[type[nn.Module], ...] = (),
    compute_dtype: torch.dtype | None = None,
) -> Spread:
    """Move a module to this rank's device and distribute it with DDP or FSDP2; gradients are averaged.

    DDP keeps a full copy on every rank. FSDP2 keeps 1/W of every parameter, and moves one unit after the
    other to the device, so the full module need not fit. Parameters inside one of `units` are gathered while
    it runs, so a unit's forward must take and return plain tensors; the rest are gathered while `module`
    runs, which must be called, not its methods. Build the optimiser afterwards.
    """
    if world.size == 1:
        return Spread(module.to(world.device))
    if mode == "ddp":
        module.to(world.device)
        ids = [world.device] if world.device.type == "cuda" else None
        copies = DistributedDataParallel(module, device_ids=ids, gradient_as_bucket_view=True)
        return Spread(copies, lambda is_last: nullcontext() if is_last else copies.no_sync())
    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy(param_dtype=compute_dtype)
    for unit in [each for each in module.modules() if isinstance(each, units)]:
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    sharded = fully_shard(module, mesh=mesh, mp_policy=policy)

    @contextmanager
    def synced(is_last: bool) -> Generator[None]:
        sharded.set_requires_gradient_sync(is_last)
        yield

    return Spread(module, synced)
