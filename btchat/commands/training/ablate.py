"""`btchat train ablate`: the paper's comparisons at small scale, and the page that tells what holds."""

import argparse
from collections.abc import Callable
from pathlib import Path

from bt_model.errors import InvalidValueError, require
from btchat.commands.training.typed_settings import a_folder

AddParser = Callable[..., argparse.ArgumentParser]
PAGE = Path("docs/evidence.md")


def add_ablation(add: AddParser) -> None:
    """The command, below `btchat train`."""
    ablate = add("ablate", help="the paper's comparisons at small scale (docs/evidence.md); resumable")
    ablate.add_argument(
        "--work", type=a_folder, default=Path(".work/embedded"), help="that of train embedded (%(default)s)"
    )
    ablate.add_argument(
        "--frozen",
        type=Path,
        default=Path("weights/embedded"),
        metavar="DIR",
        help="the embedded model whose towers and image chat model serve (%(default)s); 'none' trains them",
    )
    ablate.add_argument("--rows", nargs="+", metavar="ROW", help="some rows of the grid (default: all)")
    ablate.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    ablate.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    ablate.add_argument("--precision", choices=("float32", "bfloat16"), help="default: this CPU's fastest")
    ablate.add_argument("--out", type=Path, default=PAGE, help="the page; plots lie in a folder beside it")
    ablate.add_argument("--list", action="store_true", help="only list the rows, and what has been run")
    ablate.add_argument("--page-only", action="store_true", help="only write the page from what has been run")
    ablate.set_defaults(run=_ablate)


def _ablate(arguments: argparse.Namespace) -> int:
    from bt_model.training.trainer.precision import native_precision
    from lab.evidence.bench import Size
    from lab.evidence.page import write_page
    from lab.evidence.plots import draw_all
    from lab.evidence.rows import NEEDED, ROWS, row
    from lab.evidence.study import read_study, result_path, run_rows

    require(arguments.workers >= 1, "workers", arguments.workers, "1 or more")
    rows = [row(name) for name in arguments.rows] if arguments.rows else list(ROWS)
    work, seeds, size = arguments.work, arguments.seeds, Size()
    if arguments.list:
        for each in rows:
            done = [seed for seed in seeds if result_path(work, each, seed).exists()]
            print(f"{each.name:24} {each.about:60} seeds done: {' '.join(map(str, done)) or '-'}")
        return 0
    if not arguments.page_only:
        precision = arguments.precision or native_precision()
        frozen = None if arguments.frozen == Path("none") else arguments.frozen
        run_rows(work, rows, seeds, size=size, precision=precision, frozen=frozen, workers=arguments.workers)
    study = read_study(work, ROWS, seeds, size)
    if missing := [each.name for each in NEEDED if each.name not in study.results]:
        raise InvalidValueError(
            f"{work} has no results of {', '.join(missing)}, which the page is about; run them first"
        )
    write_page(arguments.out, study, draw_all(arguments.out.with_suffix(""), study))
    print(arguments.out)
    return 0
