"""On a real GPU: kernels, graphs and engine against torch's operators."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from bt_model.generation.chunk import PAGE, Chunk
from bt_model.generation.engine import BatchEngine
from bt_model.generation.kernel_choice import TOLERANCES, largest_error, triton_kernels
from bt_model.generation.language_model import compute
from bt_model.generation.llama_runner import LlamaRunner
from bt_model.generation.paged_runner import PagedRunner
from bt_model.generation.request import GenRequest
from tests.bt_model.generation.engines import SAMPLED, run_all, running
from tests.bt_model.generation.models import CONFIG, WIDTH, prompt, request, tiny, tokens_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LONG = replace(CONFIG, max_context=4 * PAGE)
GPU = torch.device("cuda:0")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("query", "shared", "dim"), [(32, 32, 128), (32, 8, 128), (8, 8, 80), (8, 1, 64)])
def test_triton_kernels_are_right(dtype: torch.dtype, query: int, shared: int, dim: int) -> None:
    cfg = replace(CONFIG, width=query * dim, num_heads=query, num_kv_heads=shared, mlp_width=1100)
    kernels = triton_kernels(cfg, GPU, dtype)
    assert kernels is not None
    assert largest_error(kernels, cfg, GPU, dtype) < TOLERANCES[dtype]


@pytest.mark.parametrize("lengths", [(5,), (5, 130, 200)], ids=str)
def test_recorded_steps_give_the_logits_of_the_gathered_cache(lengths: Sequence[int]) -> None:
    lm = tiny(LONG).to(GPU).requires_grad_(requires_grad=False)
    embeds = torch.randn(400, WIDTH, device=GPU)
    runners = (lm.start(20), LlamaRunner(lm.model, lm.head_weight, 20))
    assert isinstance(runners[0], PagedRunner)
    pages = [(3, 11), (5, 1), (8, 12)][: len(lengths)]
    starts = [Chunk(p, 0, n, is_prompt=True) for p, n in zip(pages, lengths, strict=True)]
    for runner in runners:
        compute(runner, torch.cat([embeds[:n] for n in lengths]), starts)
    for step in range(3):  # recorded, then replayed
        rows = [Chunk(p, n + step, 1, is_prompt=False) for p, n in zip(pages, lengths, strict=True)]
        mine, expected = (compute(r, embeds[200 + step : 200 + step + len(rows)], rows) for r in runners)
        torch.testing.assert_close(mine, expected, atol=1e-3, rtol=0)


def test_the_engine_says_there_what_it_says_on_a_cpu() -> None:
    def asked() -> list[GenRequest]:
        return [request(prompt(i), **{**SAMPLED, "seed": i}) for i in range(3)] + [request(prompt(4))]

    answers: list[list[tuple[int, ...]]] = []
    for device in ("cpu", GPU):
        with running(BatchEngine(tiny().to(device), max_batch=4)) as engine:
            answers.append([tokens_of(events) for events in run_all(engine, asked())])
    assert answers[0] == answers[1]
