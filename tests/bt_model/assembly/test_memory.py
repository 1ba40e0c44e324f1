"""What is told of a model's memory before it is loaded, against what it really takes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from bt_model.assembly.load import load
from bt_model.assembly.memory import MemoryEstimate, memory_estimate
from bt_model.backends.parts.template_backend import TemplateBackend
from bt_model.errors import CheckpointError
from bt_model.types import Quantise
from tests import tiny


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_model_folder(folder)
    return folder


def num_bytes(*modules: object) -> int:
    return sum(
        weight.nbytes for module in modules if isinstance(module, nn.Module) for weight in module.parameters()
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", ["embedded", "embedded-clip"])
def test_the_estimate_is_what_the_loaded_model_takes(weights: Path, model: str, dtype: str) -> None:
    chat = load(model, weights, device="cpu", dtype=dtype)
    estimate = memory_estimate(model, weights, chat.encoder.tower.class_embedding.dtype)
    assert estimate.language == num_bytes(chat.backend.lm)
    assert estimate.vision == pytest.approx(num_bytes(chat.encoder), rel=0.05)
    assert isinstance(chat.backend, TemplateBackend)
    assert estimate.bridge == num_bytes(chat.backend.bridge.projector)
    assert estimate.total == estimate.vision + estimate.language + estimate.bridge


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantised_decoder_is_as_large_as_estimated(weights: Path, kind: Quantise) -> None:
    pytest.importorskip("bitsandbytes")
    lm = load("embedded", weights, device="cpu", dtype="float32", quantise=kind).backend.lm
    assert isinstance(lm, nn.Module)
    scales = [getattr(w, "SCB", None) for w in lm.parameters()]
    scales += [getattr(getattr(w, "quant_state", None), "absmax", None) for w in lm.parameters()]
    really = num_bytes(lm) + sum(scale.nbytes for scale in scales if isinstance(scale, torch.Tensor))
    estimate = memory_estimate("embedded", weights, torch.float32, kind)
    assert estimate.language == pytest.approx(really, rel=0.05)


def test_fewer_bits_take_less(weights: Path) -> None:
    kinds: tuple[Quantise, ...] = ("none", "int8", "nf4")
    none, int8, nf4 = (memory_estimate("embedded", weights, torch.bfloat16, kind) for kind in kinds)
    assert none.language > int8.language > nf4.language
    assert none.vision == int8.vision == nf4.vision


def test_it_is_one_line_with_its_parts() -> None:
    text = str(MemoryEstimate(2**20, 3 * 2**20, 0))
    assert text == "4.0 MiB of weights (vision 1.0 MiB, language model 3.0 MiB, bridge 0.0 MiB)"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    tiny.write_model_folder(tmp_path)
    (tmp_path / "tiny" / "bt_adapter_tuned.safetensors").unlink()
    with pytest.raises(CheckpointError, match="bt_adapter_tuned"):
        memory_estimate("embedded", tmp_path, torch.float32)
