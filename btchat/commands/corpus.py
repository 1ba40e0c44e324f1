"""`btchat corpus make`."""

import argparse
from collections.abc import Callable
from pathlib import Path

AddParser = Callable[..., argparse.ArgumentParser]


def add_corpus(add: AddParser) -> None:
    """The command group."""
    group = add("corpus", help="the procedural clips, in the formats of real data sets").add_subparsers(
        required=True, metavar="command"
    )
    make = group.add_parser("make", help="write clips, captions, questions; stopped, it goes on where it was")
    make.add_argument("--out", type=Path, required=True, help="a folder for this corpus alone")
    make.add_argument("--clips", type=int, default=2000, help="of training, twins included")
    make.add_argument("--test-clips", type=int, default=400, help="of each of the two test splits")
    make.add_argument("--side", type=int, default=64, help="pixels, even")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--kinds", nargs="+", metavar="KIND", help="of events (default: all)")
    make.add_argument("--most-items", type=int, default=1, help="objects in a scene: 1, 2 or 3")
    make.add_argument("--textures", action="store_true", help="striped, dotted and checked backgrounds, too")
    make.add_argument("--diagonals", action="store_true", help="movement in eight directions, not four")
    make.add_argument(
        "--codec",
        choices=("exact", "default"),
        default="exact",
        help="exact: twins decode to the same frames; default: as videos in the world are coded",
    )
    make.add_argument("--workers", type=int, default=1, help="processes that paint and encode")
    make.set_defaults(run=_make)


def _make(arguments: argparse.Namespace) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lab.shapes.exports.corpus import MANIFEST, CorpusPlan, make_corpus

    kinds = {"kinds": tuple(arguments.kinds)} if arguments.kinds else {}
    plan = CorpusPlan(
        num_clips=arguments.clips,
        num_test_clips=arguments.test_clips,
        seed=arguments.seed,
        side=arguments.side,
        most_items=arguments.most_items,
        textures=arguments.textures,
        diagonals=arguments.diagonals,
        codec=arguments.codec,
        **kinds,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as shown:
        tasks = {split: shown.add_task(split, total=count) for split, count in plan.splits.items()}
        written = make_corpus(
            arguments.out,
            plan,
            workers=arguments.workers,
            progress=lambda split, done, total: shown.update(tasks[split], completed=done, total=total),
        )
    for each in written:
        print(f"{each.num_entries:8d}  {each.path.relative_to(arguments.out)!s:56s} {each.about}")
    print(f"{arguments.out / MANIFEST} names every file")
    return 0
