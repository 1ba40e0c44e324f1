"""Engines in processes of their own that take turns: CPU seconds of each one's tree, and its tokens."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Self

from benchmarks.process_tree import TICKS, cpu_seconds
from benchmarks.serving.prompts import Load, read_load

_THREADS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_OWN = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # as the server sets it for its engine process
_VLLM = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
_REFERENCE = "sequential"
_SLOW = ("sequential", "static")  # their first round is enough


@dataclass(frozen=True, slots=True)
class Answered:
    """One batch as one engine answered it."""

    batch: int
    is_warm: bool
    tokens: list[list[int]]
    cpu_seconds: float
    wall_seconds: float

    @property
    def rate(self) -> float:
        """Tokens per CPU second."""
        return sum(map(len, self.tokens)) / self.cpu_seconds


class Child:
    """An engine's process."""

    def __init__(self, engine: str, folder: Path, rows: int, python: str) -> None:
        extra = _OWN if engine == "own" else _VLLM if engine == "vllm" else {}
        path = str(Path(__file__).parents[2])
        self.engine, self._log = engine, folder / f"{engine}.log"
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.serving.child", engine, str(folder), str(rows)],
                env={**os.environ, **_THREADS, **extra, "PYTHONPATH": path},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip

    def __enter__(self) -> Self:
        self._line()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe(self._process.stdin).close()
        self._process.wait(timeout=60)
        self._pipe(self._process.stdout).close()

    def answer(self, load: Load, number: int) -> Answered:
        """Batch `number` of the load."""
        cpu, begin = cpu_seconds(self._process.pid), time.monotonic()
        print(number, file=self._pipe(self._process.stdin), flush=True)
        tokens = json.loads(self._line())
        wall = time.monotonic() - begin
        cpu = max(cpu_seconds(self._process.pid) - cpu, 1 / TICKS)
        return Answered(number, load.batches[number].is_warm, tokens, cpu, wall)

    def _line(self) -> str:
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise SystemExit(f"{self.engine} ended:\n{self._log.read_text(encoding='utf-8')[-2000:]}")
        return line

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one engine: medians of its rounds, and how many of its answers are the reference's."""

    tokens_per_cpu_second_cold: float
    tokens_per_cpu_second_warm: float
    wall_seconds_cold: float
    wall_seconds_warm: float
    each_cold: tuple[float, ...]
    each_warm: tuple[float, ...]
    num_equal: int
    num_compared: int


def run(folder: Path, engines: Sequence[str], rows: int, vllm_python: str | None) -> dict[str, Figures]:
    """Every engine answers a batch before the next batch comes, so that all see the same machine.

    `folder` holds what `write_load` wrote, and the model in model/.
    """
    load = read_load(folder)
    answered: dict[str, list[Answered]] = {engine: [] for engine in engines}
    with ExitStack() as stack:
        pythons = [vllm_python if engine == "vllm" and vllm_python else sys.executable for engine in engines]
        children = [
            stack.enter_context(Child(engine, folder, rows, python))
            for engine, python in zip(engines, pythons, strict=True)
        ]
        for number, batch in enumerate(load.batches):
            for child in children:
                if batch.round == 0 or child.engine not in _SLOW:
                    answered[child.engine].append(child.answer(load, number))
    reference = {a.batch: a.tokens for a in answered.get(_REFERENCE, [])}
    return {engine: _figures(each, reference) for engine, each in answered.items()}


def _figures(answered: Sequence[Answered], reference: dict[int, list[list[int]]]) -> Figures:
    cold, warm = ([a for a in answered if a.is_warm is is_warm] for is_warm in (False, True))
    pairs = [
        pair
        for a in answered
        if a.batch in reference
        for pair in zip(a.tokens, reference[a.batch], strict=True)
    ]
    return Figures(
        median(a.rate for a in cold),
        median(a.rate for a in warm),
        median(a.wall_seconds for a in cold),
        median(a.wall_seconds for a in warm),
        tuple(round(a.rate, 1) for a in cold),
        tuple(round(a.rate, 1) for a in warm),
        sum(one == other for one, other in pairs),
        len(pairs),
    )
