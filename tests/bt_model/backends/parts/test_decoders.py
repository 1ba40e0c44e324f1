"""Every decoder that we load, against transformers: logits, and greedy tokens through the engine."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from bt_model.backends.parts.llm import load_llama
from bt_model.generation.chunk import Chunk
from bt_model.generation.engine import BatchEngine
from bt_model.generation.language_model import compute
from bt_model.generation.llama import Llama
from bt_model.generation.quantised import quantise
from tests.bt_model.backends.parts import decoders
from tests.bt_model.generation.engines import run_all
from tests.bt_model.generation.models import request, soft, tokens_of

TOLERANCE = 1e-4
LENGTH = 40


@pytest.fixture(scope="module", params=list(decoders.OURS))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "tuple[Llama, PreTrainedModel]":
    folder = tmp_path_factory.mktemp("decoder")
    theirs = decoders.save(decoders.OURS[request.param](), folder)
    return load_llama(decoders.files(folder)), theirs


def test_logits_equal_those_of_transformers(pair: tuple[Llama, PreTrainedModel]) -> None:
    ours, theirs = pair
    embeds = soft(LENGTH, 1).embeds
    with torch.no_grad():
        expected = theirs(inputs_embeds=embeds[None]).logits[0]
        torch.testing.assert_close(ours(embeds[None])[0], expected, atol=TOLERANCE, rtol=0)
    prompt = Chunk((1,), 0, LENGTH, is_prompt=True)
    step = compute(ours.start(2), embeds, [prompt])[0]
    torch.testing.assert_close(step, expected[-1], atol=TOLERANCE, rtol=0)


def test_greedy_tokens_equal_those_of_transformers(pair: tuple[Llama, PreTrainedModel]) -> None:
    ours, theirs = pair
    asked = [request([soft(10 + 3 * i, i)], 12) for i in range(4)]
    engine = BatchEngine(ours, max_batch=4)
    engine.start()
    said = [list(tokens_of(events)) for events in run_all(engine, asked)]
    engine.stop()
    assert said == [decoders.generated(theirs, soft(10 + 3 * i, i).embeds, 12) for i in range(4)]


def test_a_bias_survives_quantisation(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra gpu (bitsandbytes) is not installed")
    decoders.save(decoders.OURS["qwen2"](), tmp_path)
    exact, near = (load_llama(decoders.files(tmp_path)) for _ in range(2))
    embeds = soft(LENGTH, 1).embeds
    expected = exact(embeds[None])[0, -1]
    quantise(near, "int8", torch.device("cpu"))
    step = compute(near.start(2), embeds, [Chunk((1,), 0, LENGTH, is_prompt=True)])[0]
    assert (step - expected).abs().max() < 0.1 * expected.abs().max()
