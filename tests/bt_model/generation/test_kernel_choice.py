"""Kernels are tried before they are used."""

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from bt_model.generation.decode_kernels import DecodeKernels, LayerPages, TorchKernels
from bt_model.generation.kernel_choice import largest_error, triton_kernels
from bt_model.generation.kv_cache import Heads
from bt_model.generation.rope import Rope
from tests.bt_model.generation.models import CONFIG

MODULE = "bt_model.generation.triton_kernels"
CPU = torch.device("cpu")


class LateKernels(TorchKernels):
    """Forgets to write."""

    def attend(self, qkv: Tensor, rope: Rope, rows: Tensor, pages: LayerPages, heads: Heads) -> Tensor:
        return super().attend(qkv, rope, rows, LayerPages(pages.keys.clone(), pages.values.clone()), heads)


class WrongKernels(TorchKernels):
    def gate(self, gate_up: Tensor) -> Tensor:
        return super().gate(gate_up) + 1


class NanKernels(TorchKernels):
    def add_norm(self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        return super().add_norm(x, delta, weight * torch.nan, eps)


def chosen(
    monkeypatch: pytest.MonkeyPatch, made: type[TorchKernels] | None, *, has_gpu: bool = True
) -> DecodeKernels | None:
    """With the class in place of Triton's, or without Triton."""
    module = None if made is None else ModuleType(MODULE)
    if module is not None:
        module.__dict__["TritonKernels"] = made
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    return triton_kernels.__wrapped__(CONFIG, CPU, torch.float32)


def test_right_ones_are_taken(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert isinstance(chosen(monkeypatch, TorchKernels), TorchKernels)
    assert caplog.messages == ["decoding with Triton kernels"]


@pytest.mark.parametrize("made", [LateKernels, WrongKernels, NanKernels])
def test_wrong_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, made: type[TorchKernels]
) -> None:
    assert chosen(monkeypatch, made) is None
    assert "they differ by" in caplog.text


def test_without_triton_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert chosen(monkeypatch, None) is None
    assert MODULE in caplog.text


def test_without_a_gpu_nothing_is_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert chosen(monkeypatch, TorchKernels, has_gpu=False) is None
    assert caplog.text == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_error_is_none_beside_oneself(dtype: torch.dtype) -> None:
    assert largest_error(TorchKernels(), CONFIG, CPU, dtype) == 0
