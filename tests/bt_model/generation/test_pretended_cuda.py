"""On a GPU that is pretended: no operator mixes devices, and a step of the engine reads once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bt_model.assembly.load import load
from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import GenRequest
from bt_model.types import GenerateOptions, Turn, VideoTokens
from tests import published, tiny
from tests.bt_model.generation import models
from tests.bt_model.generation.engines import SAMPLED, run_all, running
from tests.bt_model.generation.models import Options, finish_of, prompt, request, tokens_of
from tests.pretended_cuda import CUDA, PretendedCuda, pretended_cuda

NEW = 6
FORMATS = ["float32", "bfloat16"]
OPTIONS: dict[str, Options] = {
    "greedy": {},
    "sampled": {"temperature": 0.9},
    "top_p": {"temperature": 0.9, "top_p": 0.9, "top_k": 20},
    "everything": SAMPLED,
}


@pytest.fixture
def gpu() -> Iterator[PretendedCuda]:
    with pretended_cuda() as device:
        yield device


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    published.write_all(folder)
    return folder


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", ["llava-hf", "minigpt4", "instructblip"])
def test_a_model_answers_about_a_clip(gpu: PretendedCuda, weights: Path, name: str, dtype: str) -> None:
    chat = load(name, weights, device=str(CUDA), dtype=dtype)
    with gpu.counted() as encoding:
        video = VideoTokens(b"key", chat.encode(tiny.clips(1, 4))[0])
        asked = chat.request(
            [Turn("user", "what happens?")], [video], GenerateOptions(max_tokens=NEW), request_id="a"
        )
    assert encoding.num_kernels > 50
    assert encoding.reads == 0
    with running(BatchEngine(chat.backend.lm, max_batch=2)) as engine, gpu.counted() as answering:
        events = list(engine.submit(asked).stream())
    assert len(tokens_of(events)) == NEW, finish_of(events).message
    assert answering.reads == NEW


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_several_rows_say_what_they_say_on_a_cpu(gpu: PretendedCuda, options: Options) -> None:
    def asked() -> list[GenRequest]:
        return [request(prompt(index), NEW, **{**options, "seed": index}) for index in range(3)]

    with running(BatchEngine(models.tiny(), max_batch=4)) as engine:
        expected = [tokens_of(events) for events in run_all(engine, asked())]
    with running(BatchEngine(models.tiny().to(CUDA), max_batch=4)) as engine, gpu.counted() as traffic:
        answers = [tokens_of(events) for events in run_all(engine, asked())]
    assert answers == expected
    reads_a_step = 2 if options.get("logprobs") else 1
    assert NEW * reads_a_step <= traffic.reads <= (NEW + 2) * reads_a_step  # they may begin one by one
