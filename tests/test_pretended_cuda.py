"""The pretended GPU refuses and counts what it should."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.pretended_cuda import CUDA, MixedDevicesError, PretendedCuda, pretended_cuda

Use = Callable[[Tensor], object]
MIXTURES: dict[str, Use] = {
    "add": lambda x: x + torch.ones(3),
    "index": lambda x: x[torch.tensor([0])],
    "linear": lambda x: F.linear(x, torch.ones(2, 3)),
    "cat": lambda x: torch.cat([x, torch.ones(1)]),
}
READS: dict[str, Use] = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x[0]),
    "if": lambda x: bool(x[0] > 0),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "copy_": lambda x: torch.empty(3).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "written mask": lambda x: x.__setitem__(x > 0, torch.zeros((), device=CUDA)),
    "masked_select": lambda x: x.masked_select(x > 0),
}
KERNELS: dict[str, tuple[Use, int]] = {
    "views": (lambda x: x[1:].view(1, 2).transpose(0, 1)[None, ..., 0], 0),
    "sum of two": (lambda x: x * 2 + 1, 2),
    "linear": (lambda x: F.linear(x, torch.empty(2, 3, device=CUDA)), 1),
    "in place": (lambda x: x.add_(1), 1),
    "other format": (lambda x: x.bfloat16(), 1),
    "same format": (lambda x: x.float(), 0),
    "no memory filled": (torch.empty_like, 0),
}


@pytest.fixture
def gpu() -> Iterator[PretendedCuda]:
    with pretended_cuda() as device:
        yield device


@pytest.mark.parametrize("mix", MIXTURES.values(), ids=MIXTURES)
def test_both_devices_in_one_operator_are_refused(gpu: PretendedCuda, mix: Use) -> None:
    with pytest.raises(MixedDevicesError):
        mix(torch.ones(3, device=CUDA))


def test_a_number_of_the_host_is_allowed(gpu: PretendedCuda) -> None:
    assert (torch.ones(3, device=CUDA) * torch.tensor(2.0)).tolist() == [2, 2, 2]


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_waits_for_the_device_is_counted(gpu: PretendedCuda, read: Use) -> None:
    x = torch.ones(3, device=CUDA)
    with gpu.counted() as traffic:
        read(x)
    assert traffic.reads == 1


@pytest.mark.parametrize(("compute", "expected"), KERNELS.values(), ids=KERNELS)
def test_what_computes_is_a_kernel(gpu: PretendedCuda, compute: Use, expected: int) -> None:
    x = torch.ones(3, device=CUDA)
    with gpu.counted() as traffic:
        compute(x)
    assert (traffic.num_kernels, traffic.reads, traffic.uploads) == (expected, 0, 0)


@pytest.mark.parametrize("make", [lambda: torch.ones(3).to(CUDA), lambda: torch.tensor([1, 2], device=CUDA)])
def test_what_is_sent_there_is_an_upload(gpu: PretendedCuda, make: Callable[[], Tensor]) -> None:
    with gpu.counted() as traffic:
        assert make().device == CUDA
    assert (traffic.uploads, traffic.reads) == (1, 0)


def test_an_operator_that_stands_for_kernels_counts_as_these(gpu: PretendedCuda) -> None:
    x = torch.ones(3, device=CUDA)
    with gpu.counted() as traffic, gpu.one_operator("fused", num_kernels=2):
        x = x * 2 + 1 - x.cumsum(0)
    assert traffic.kernels == {"fused": 2}


@pytest.mark.parametrize("key", [0, (..., 1), (slice(1, 3), None), ([0, 2],), (slice(None), [2, 0])], ids=str)
def test_parts_are_read_and_written_as_of_any_tensor(gpu: PretendedCuda, key: object) -> None:
    here, there = torch.arange(12.0).view(4, 3), torch.arange(12.0).view(4, 3).to(CUDA)
    assert torch.equal(there[key].cpu(), here[key])  # pyright: ignore[reportArgumentType]
    there[key], here[key] = -1, -1  # pyright: ignore[reportArgumentType]
    assert torch.equal(there.cpu(), here)


def test_a_module_moves_there_and_computes_what_it_did(gpu: PretendedCuda) -> None:
    layer, x = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5)), torch.randn(2, 4)
    expected = layer(x)
    assert torch.equal(layer.to(CUDA)(x.to(CUDA)).cpu(), expected)
