"""`btchat train ablate`: the paper's comparisons at small scale, and the page with their results."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bt_model.errors import InvalidValueError, require
from btchat.commands.options import OutputFile, Work
from btchat.commands.training.embedded import CpuPrecision

if TYPE_CHECKING:
    from lab.evidence.bench import StudySize

Several = Parameter(consume_multiple=True)


def ablate(
    *,
    work: Work = Path(".work/embedded"),
    frozen: Path = Path("weights/embedded"),
    rows: Annotated[tuple[str, ...], Several] = (),
    seeds: Annotated[tuple[int, ...], Several] = (0, 1, 2),
    workers: int = 1,
    precision: CpuPrecision | None = None,
    out: OutputFile = Path("docs/evidence.md"),
    list_rows: Annotated[bool, Parameter(name="--list")] = False,
    page_only: bool = False,
) -> None:
    """Run the paper's comparisons at small scale (docs/evidence.md); resumable.

    Args:
        work: that of train embedded
        frozen: the embedded model whose towers and image chat model serve; 'none' trains them
        rows: some rows of the grid, as --list names them (default: all)
        seeds: a run each
        workers: processes, of one thread each
        precision: number format of matrix products (default: this CPU's fastest)
        out: the page; plots lie in a folder beside it
        list_rows: only list the rows, and what has been run
        page_only: only write the page from what has been run
    """
    from bt_model.training.trainer.optimiser import native_precision
    from lab.evidence.bench import StudySize
    from lab.evidence.rows import ROWS, row
    from lab.evidence.study import result_path, run_rows

    require(workers >= 1, "workers", workers, "1 or more")
    chosen = [row(name) for name in rows] if rows else list(ROWS)
    size = StudySize()
    if list_rows:
        for each in chosen:
            done = [seed for seed in seeds if result_path(work, each, seed).exists()]
            print(f"{each.name:24} {each.about:60} seeds done: {' '.join(map(str, done)) or '-'}")
        return
    if find_spec("scipy") is None:
        raise InvalidValueError(
            "the page's tests need scipy, not installed here (pip install 'btchat[train]')"
        )
    if not page_only:
        towers = None if frozen == Path("none") else frozen
        done = run_rows(
            work, chosen, seeds, size=size, precision=precision or native_precision(), frozen=towers,
            workers=workers,
        )  # fmt: skip
        for line in done:
            print(line, file=sys.stderr, flush=True)
    _write(out, work, seeds, size)


def _write(out: Path, work: Path, seeds: tuple[int, ...], size: "StudySize") -> None:
    """The page with its plots, from what has been run."""
    from lab.evidence.page import write_page
    from lab.evidence.plots import draw_all
    from lab.evidence.rows import NEEDED, ROWS
    from lab.evidence.study import read_study

    study = read_study(work, ROWS, seeds, size)
    if missing := [each.name for each in NEEDED if each.name not in study.results]:
        raise InvalidValueError(
            f"{work} has no results of {', '.join(missing)}, which the page is about; run them first"
        )
    write_page(out, study, draw_all(out.with_suffix(""), study))
    print(out)
