"""What the engine itself costs: scheduler, sampler and events around a model that computes nothing."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bt_model.generation.chunk import Chunk
from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import Delta, GenRequest, Tokens

WORDS = 32_000
_SPREAD = 4.0  # 190 of the words have 0.9 of the probability
_STEPS = 100
_PROMPT = 4


class NullModel:
    """Implements `LanguageModel` and `Runner`; its logits are random, and the same but for penalties."""

    vocab_size, hidden_size, max_context, page_bytes = WORDS, 1, 4096, 1
    shares_prefixes = True

    def __init__(self, rows: int) -> None:
        self._logits = torch.randn(rows, WORDS, generator=torch.Generator().manual_seed(0)) * _SPREAD

    def embed(self, ids: Tensor) -> Tensor:
        return torch.zeros(len(ids), 1)

    def start(self, num_pages: int, *, keep_weights: bool = True) -> "NullModel":  # noqa: ARG002
        return self

    def forward(self, embeds: Tensor, chunks: Sequence[Chunk]) -> Iterator[Tensor]:  # noqa: ARG002
        yield self._logits[: sum(chunk.is_last for chunk in chunks)]

    def copy(self, source: int, target: int) -> None:
        pass

    def clear(self, page: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Options:
    """How the next word is chosen."""

    name: str
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0


CHOICES = (
    Options("greedy"),
    Options("temperature 0.2", 0.2),
    Options("top-p 0.9, top-k 50", 1.0, 0.9, 50),
    Options("top-p 0.9", 1.0, 0.9),
    Options("top-p 0.9, repetition penalty", 1.0, 0.9, 0, 1.2),
)


def step_ms(rows: int, options: Options) -> float:
    """CPU milliseconds of a step of so many rows; the receiver of the events does nothing."""
    engine = BatchEngine(NullModel(rows), max_batch=rows)
    engine.start()
    _run(engine, rows, options, 4)
    once = min(_run(engine, rows, options, 4) for _ in range(2))
    many = min(_run(engine, rows, options, 4 + _STEPS) for _ in range(2))
    engine.stop()
    return 1e3 * (many - once) / _STEPS


def _run(engine: BatchEngine, rows: int, options: Options, steps: int) -> float:
    """CPU seconds."""
    begin = time.process_time()
    handles = [engine.submit(_request(row, options, steps)) for row in range(rows)]
    for handle in handles:
        assert sum(isinstance(event, Delta) for event in handle.stream()) == steps
    return time.process_time() - begin


def _request(row: int, options: Options, steps: int) -> GenRequest:
    return GenRequest(
        str(row),
        (Tokens(tuple(range(row, row + _PROMPT))),),
        steps,
        frozenset(),
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        repetition_penalty=options.repetition_penalty,
        seed=row,
    )
