"""8 and 4 bits: the tiny model loads, answers on the CPU, and takes the memory it should."""

from pathlib import Path

import pytest
import torch
from torch import nn

from bt_model.assembly.load import load
from bt_model.chat import VideoChat
from bt_model.config import LlamaConfig
from bt_model.errors import BtchatError
from bt_model.generation import quantised
from bt_model.generation.engine import BatchEngine
from bt_model.generation.llama import Llama
from bt_model.generation.quantised import quantise
from bt_model.types import GenerateOptions, Quantise, Turn, VideoTokens
from tests import tiny

pytest.importorskip("bitsandbytes", reason="the extra gpu (bitsandbytes) is not installed")
CONFIG = LlamaConfig(
    vocab_size=100, width=64, num_layers=2, num_heads=4, num_kv_heads=2, mlp_width=96, max_context=64
)  # fmt: skip
CPU = torch.device("cpu")
QUANTISED: tuple[Quantise, ...] = ("int8", "nf4")


def decoder(dtype: torch.dtype = torch.float32) -> Llama:
    torch.manual_seed(0)
    return Llama(CONFIG).to(dtype).eval().requires_grad_(requires_grad=False)


def logits(lm: Llama) -> torch.Tensor:
    with torch.inference_mode():
        return lm(lm.embed(torch.arange(20)[None])).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "most"), [("int8", 0.05), ("nf4", 0.3)])
def test_logits_stay_near(kind: Quantise, most: float, dtype: torch.dtype) -> None:
    exact = logits(decoder(dtype))
    near = logits(quantise(decoder(dtype), kind, CPU))
    error = (near - exact).abs().max() / exact.abs().max()
    assert 1e-4 < error < most


@pytest.mark.parametrize("kind", QUANTISED)
def test_only_the_blocks_matrices_are_quantised(kind: Quantise) -> None:
    lm = quantise(decoder(), kind, CPU)
    assert type(lm.lm_head) is nn.Linear
    assert type(lm.model.embed_tokens) is nn.Embedding
    inside = [module for module in lm.model.layers.modules() if isinstance(module, nn.Linear)]
    assert len(inside) == 7 * CONFIG.num_layers
    assert not [module for module in inside if type(module) is nn.Linear]


@pytest.mark.parametrize(("kind", "per_weight"), [("int8", 1.0), ("nf4", 0.5)])
def test_weights_take_the_bytes_they_should(kind: Quantise, per_weight: float) -> None:
    lm = quantise(decoder(), kind, CPU)
    matrix = lm.model.layers[0].get_submodule("self_attn.q_proj.weight".rpartition(".")[0])
    weight = matrix.weight
    assert isinstance(weight, torch.Tensor)
    assert weight.nbytes == per_weight * CONFIG.width**2


@pytest.mark.parametrize("kind", QUANTISED)
def test_the_tiny_model_answers_on_the_cpu(kind: Quantise, tiny_weights: Path) -> None:
    chat = load(tiny.MODEL, tiny_weights, device="cpu", quantise=kind)
    assert chat.card.versions["quantise"] == kind
    assert "".join(answers(chat))


def test_the_library_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    logits(quantise(decoder(), "int8", CPU))
    assert caplog.records == []


def answers(chat: VideoChat) -> list[str]:
    engine = BatchEngine(chat.backend.lm, max_batch=2)
    engine.start()
    video = VideoTokens(b"key", chat.encode(tiny.clips(1, 4))[0])
    options = GenerateOptions(max_tokens=4, temperature=0.0)
    said = list(chat.answer(engine, [Turn("user", "what is it?")], [video], options))
    engine.stop()
    return said


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(quantised, "import_module", missing)
    with pytest.raises(BtchatError, match=r"needs bitsandbytes; install btchat\[gpu\]") as caught:
        quantise(decoder(), "int8", CPU)
    assert caught.value.param == "quantise"
