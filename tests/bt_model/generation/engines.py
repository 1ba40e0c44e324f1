"""The engines under contract, and what the tests do with them; a new engine is one line in `ENGINES`."""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from bt_model.generation.chunk import Chunk
from bt_model.generation.engine import BatchEngine
from bt_model.generation.language_model import LanguageModel
from bt_model.generation.llama import Llama
from bt_model.generation.llama_runner import LlamaRunner
from bt_model.generation.request import Engine, Event, GenRequest
from tests.bt_model.generation.models import CONFIG, Options

SLOTS, QUEUE = 4, 20
SAMPLED: Options = {
    "temperature": 0.9,
    "top_k": 20,
    "top_p": 0.9,
    "min_p": 0.01,
    "repetition_penalty": 1.2,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "logprobs": True,
}

Make = Callable[[LanguageModel], Engine]

ENGINES: dict[str, Make] = {
    "batch": lambda lm: BatchEngine(lm, max_batch=SLOTS, max_queue=QUEUE),
}


class GatedLlama(Llama):
    """A decoder whose decode steps wait for the test, so that "while it runs" is a fact and not a race."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.steps = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.is_open = True

    def start(self, num_pages: int, *, keep_weights: bool = True) -> LlamaRunner:
        def wait(chunks: Sequence[Chunk]) -> None:
            if any(not chunk.is_prompt for chunk in chunks):
                self.entered.release()
                while not self.is_open and not self.steps.acquire(timeout=0.01):
                    pass

        return WatchedRunner(self, num_pages, wait)


class WatchedRunner(LlamaRunner):
    """Calls the test before every step."""

    def __init__(self, lm: Llama, num_pages: int, before: Callable[[Sequence[Chunk]], None]) -> None:
        super().__init__(lm.model, lm.head_weight, num_pages)
        self._before = before

    def forward(self, embeds: Tensor, chunks: Sequence[Chunk]) -> Iterator[Tensor | None]:
        self._before(chunks)
        yield from super().forward(embeds, chunks)


@contextmanager
def running(engine: Engine) -> Generator[Engine]:
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


def run_all(engine: Engine, requests: list[GenRequest]) -> list[list[Event]]:
    handles = [engine.submit(r) for r in requests]
    return [list(h.stream()) for h in handles]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)
