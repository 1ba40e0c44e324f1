"""`btchat train ablate`: every row of the grid with every seed, resumable, then the page of results."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import torch

from lab.evidence.bench import Bench, StudySize, set_up
from lab.evidence.examine import examine
from lab.evidence.fit import fit
from lab.evidence.results import Result
from lab.evidence.rows import BASE, CAPTIONED, CLIP, Row, row

if TYPE_CHECKING:
    from bt_model.training.settings import Precision

HEADLINE = (CLIP.name, BASE.name, CAPTIONED.name)  # examined on more scenes, and with controls


@dataclass(frozen=True, slots=True)
class Study:
    """What was run: rows with one result a seed, in the order of the seeds."""

    size: StudySize
    seeds: Sequence[int]
    results: Mapping[str, Sequence[Result]]


def run_rows(
    work: Path,
    rows: Sequence[Row],
    seeds: Sequence[int],
    *,
    size: StudySize,
    precision: "Precision",
    frozen: Path | None = None,
    workers: int = 1,
) -> Iterator[str]:
    """Train and examine what has no result yet, seed by seed, so that whole grids are there early.

    With several workers, processes of one thread each take the next row as they come free. `frozen` is
    `set_up`'s. Yields a line for each row that is done.
    """
    # what all share is made once, before anything is shared out
    set_up(work, size, precision=precision, frozen=frozen)
    missing = [
        (each.name, seed)
        for seed in seeds
        for each in rows
        # nothing of an untrained row is drawn
        if (each.training != "none" or seed == seeds[0]) and not result_path(work, each, seed).exists()
    ]
    run = partial(_run_row, work=work, size=size, precision=precision, frozen=frozen)
    with ExitStack() as held:
        done = map(run, missing)
        if workers > 1:
            spawn = get_context("spawn")
            pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=end_with_parent)
            done = held.enter_context(pool).map(run, missing)
        for count, ((name, seed), _) in enumerate(zip(missing, done, strict=True), 1):
            yield f"{name}, seed {seed}: {count} of {len(missing)} runs done"


def end_with_parent() -> None:
    """A worker whose parent was killed must not go on writing beside the next run's."""
    parent = parent_process()
    assert parent is not None
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _run_row(
    task: tuple[str, int], *, work: Path, size: StudySize, precision: "Precision", frozen: Path | None
) -> None:
    name, seed = task
    bench = _bench(work, size, precision, frozen)
    trained = fit(row(name), seed, bench, work / "ablate")
    is_headline = name in HEADLINE
    result = examine(trained, bench, is_headline=is_headline, with_controls=is_headline)
    result.save(result_path(work, trained.row, seed))


@cache
def _bench(work: Path, size: StudySize, precision: "Precision", frozen: Path | None) -> Bench:
    """Read back once by every process; training clips are drawn at random, so from memory."""
    torch.set_num_threads(1)
    bench = set_up(work, size, precision=precision, frozen=frozen)
    return replace(bench, train=bench.train.in_memory())


def result_path(work: Path, row: Row, seed: int) -> Path:
    """Where a row's answers lie."""
    return work / "ablate" / "results" / f"{row.name}-{seed}.npz"


def read_study(work: Path, rows: Sequence[Row], seeds: Sequence[int], size: StudySize) -> Study:
    """The results that are there; rows without any are left out."""
    results: dict[str, list[Result]] = {}
    for each in rows:
        paths = [result_path(work, each, seed) for seed in seeds]
        if found := [Result.load(path) for path in paths if path.exists()]:
            results[each.name] = found
    return Study(size, seeds, results)
