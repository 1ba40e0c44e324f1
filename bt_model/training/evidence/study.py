"""`btchat train ablate`: every row of the grid with every seed, resumable, then the page of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bt_model.training.evidence.bench import Bench, Size, set_up
from bt_model.training.evidence.examine import examine
from bt_model.training.evidence.fit import fit
from bt_model.training.evidence.results import Result
from bt_model.training.evidence.rows import BASE, CLIP, Row

if TYPE_CHECKING:
    from bt_model.training.precision import Precision

HEADLINE = (CLIP.name, BASE.name)  # examined on more scenes, and with controls


@dataclass(frozen=True, slots=True)
class Study:
    """What was run: rows with one result a seed, in the order of the seeds."""

    size: Size
    seeds: Sequence[int]
    results: Mapping[str, Sequence[Result]]


def run_rows(
    work: Path, rows: Sequence[Row], seeds: Sequence[int], *, size: Size, precision: "Precision"
) -> None:
    """Train and examine what has no result yet, seed by seed, so that whole grids are there early.

    Several processes may share the rows out between them; the parts that all need are trained first.
    """
    folder = work / "ablate"
    bench = set_up(work, size, seed=0, precision=precision)
    for seed in seeds:
        for row in rows:
            if row.training == "none" and seed != seeds[0]:
                continue  # nothing of it is drawn
            if not result_path(work, row, seed).exists():
                _run_row(row, seed, bench, folder).save(result_path(work, row, seed))


def _run_row(row: Row, seed: int, bench: Bench, folder: Path) -> Result:
    fitted = fit(row, seed, bench, folder)
    is_headline = row.name in HEADLINE
    return examine(fitted, bench, is_headline=is_headline, with_controls=is_headline)


def result_path(work: Path, row: Row, seed: int) -> Path:
    """Where a row's answers lie."""
    return work / "ablate" / "results" / f"{row.name}-{seed}.npz"


def read_study(work: Path, rows: Sequence[Row], seeds: Sequence[int], size: Size) -> Study:
    """The results that are there; rows without any are left out."""
    results: dict[str, list[Result]] = {}
    for row in rows:
        paths = [result_path(work, row, seed) for seed in seeds]
        if found := [Result.load(path) for path in paths if path.exists()]:
            results[row.name] = found
    return Study(size, seeds, results)
