"""`python -m tests.mutation`: plants faults one by one and tells which of them no test notices.

Ends with 1 when fewer than --goal of them are noticed; with --locks, when one is not.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from tests.mutation import results, sampling
from tests.mutation.focus import Focus
from tests.mutation.imports import Imports
from tests.mutation.measured import Measured, Measuring
from tests.mutation.mutants import Mutant
from tests.mutation.results import Result, Results
from tests.mutation.running import Outcome, Trial
from tests.mutation.selection import Selection
from tests.mutation.tree import ROOT, WORK, Copy, digest, packages, sources


@dataclass(frozen=True, slots=True)
class Session:
    """One call of the program: what it was asked, and the texts that it works on."""

    asked: argparse.Namespace
    chosen: dict[str, str]  # sources whose mutants are tried
    product: dict[str, str]
    tests: dict[str, str]

    @property
    def tests_digest(self) -> str:
        return digest(part for pair in self.tests.items() for part in pair)


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # copies and children go with us
    chosen, product = sources(tuple(asked.paths)), sources(packages())
    session = Session(asked, chosen, product, sources(("tests",)))
    try:
        mutants = _mutants(asked, chosen)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for entry in results.equivalents():
        if entry.is_stale(product):
            say(f"equivalents.toml: no such line any more in {entry.file}, {entry.scope}: {entry.before}")
    say(f"{len(mutants)} mutants of {len(chosen)} files, seed {asked.seed}")
    found = list(_tried(session, mutants))
    if not found:
        return 0
    for line in (*results.survivors(found), "", *results.table(found)):
        say(line)
    goal = 1.0 if asked.locks else asked.goal
    reached = results.score(found)
    say(f"\n{reached:.1%} noticed; the goal is {goal:.0%}")
    return 0 if reached >= goal else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--paths", nargs="+", default=packages(), help="files or folders to change")
    parser.add_argument("--count", type=int, default=200, help="how many mutants are drawn")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds draw equal mutants")
    parser.add_argument("--locks", action="store_true", help="take every lock away, one by one")
    parser.add_argument("--only", metavar="FILE:LINE", help="all mutants of one line")
    parser.add_argument("--list", action="store_true", help="show the mutants and run nothing")
    parser.add_argument("--resume", action="store_true", help="keep the verdicts that still hold")
    parser.add_argument("--goal", type=float, default=0.9, help="the share that must be noticed")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once, each in a copy of its own")
    parser.add_argument("--budget", type=float, default=40, help="seconds of tests for a mutant")
    parser.add_argument("--limit", type=float, default=60, help="seconds until a mutant counts as hanging")
    parser.add_argument("--results", type=Path, default=ROOT / WORK / "results.jsonl", help="JSON lines")
    return parser


def _mutants(asked: argparse.Namespace, chosen: dict[str, str]) -> list[Mutant]:
    if asked.only:
        return sampling.of_line(chosen, asked.only)
    return sampling.locks(chosen) if asked.locks else sampling.drawn(chosen, asked.count, asked.seed)


def _tried(session: Session, mutants: list[Mutant]) -> Iterator[Result]:
    asked = session.asked
    if asked.list:
        for mutant in mutants:
            say(
                "\n".join(
                    [f"{mutant.place}  {mutant.kind}  {mutant.scope}", *mutant.diff(_text(session, mutant))]
                )
            )
        return
    kept = Results(asked.results, resume=asked.resume)
    todo: list[Mutant] = []
    for mutant in mutants:
        result = _settled(session, kept, mutant)
        if result is None:
            todo.append(mutant)
        else:
            yield result
    if todo:
        yield from _run(session, kept, todo)


def _settled(session: Session, kept: Results, mutant: Mutant) -> Result | None:
    """What needs no run: judged equivalent, or known from an earlier run."""
    if any(entry.fits(mutant) for entry in results.equivalents()):
        outcome = Outcome("equivalent", 0.0, 0)
        return Result.of(mutant, _text(session, mutant), outcome, session.tests_digest)
    return kept.known(mutant, _text(session, mutant), session.tests_digest)


def _run(session: Session, kept: Results, todo: list[Mutant]) -> Iterator[Result]:
    asked = session.asked
    with tempfile.TemporaryDirectory(prefix="btchat-mutation-") as folder:
        copies = [_copy(Path(folder) / str(number)) for number in range(min(asked.jobs, len(todo)))]
        selection = _selection(session, todo, copies)
        trials = [Trial(copy, selection, asked.budget, asked.limit) for copy in copies]
        found: list[Result] = []
        for result in _results(session, todo, trials):
            kept.add(result)
            found.append(result)
            say(f"{len(found):4}/{len(todo)} {result}")
        yield from _doubted(found, kept, Trial(copies[0], selection, asked.budget, asked.limit))


def _copy(folder: Path) -> Copy:
    folder.mkdir()
    copy = Copy(folder)
    copy.verify()
    return copy


def _selection(session: Session, todo: list[Mutant], copies: list[Copy]) -> Selection:
    """Measures the test files that can load one of the changed files."""
    started = time.monotonic()
    imports = Imports({**session.product, **session.tests})
    changed = {mutant.file for mutant in todo}
    measuring = Measuring()
    files = [file for file in measuring.files if changed & imports.reached(file)]
    measured = Measured()
    for step in measuring.measured(files, copies):
        if isinstance(step, Measured):
            measured = step
        else:
            say(step)
    unusable = [test.id for test in measured.tests.values() if not test.is_usable]
    seconds = time.monotonic() - started
    known = f"{len(measured.tests)} tests of {len(files)} files"
    say(f"{known} measured after {seconds:.0f} s; {len(unusable)} of them cannot be used")
    return Selection(measured, Focus(session.product), imports)


def _results(session: Session, todo: list[Mutant], trials: list[Trial]) -> Iterator[Result]:
    idle: SimpleQueue[Trial] = SimpleQueue()
    for trial in trials:
        idle.put(trial)

    def attempt(mutant: Mutant) -> Result:
        trial = idle.get()
        try:
            text = _text(session, mutant)
            return Result.of(mutant, text, trial.outcome(mutant, text), session.tests_digest)
        finally:
            idle.put(trial)

    pool = ThreadPoolExecutor(len(trials))
    try:
        for future in as_completed([pool.submit(attempt, mutant) for mutant in todo]):
            yield future.result()
    finally:  # also when the program is told to end in the middle
        pool.shutdown(wait=False, cancel_futures=True)
        for trial in trials:
            trial.stop()
        pool.shutdown()


def _doubted(found: list[Result], kept: Results, trial: Trial) -> Iterator[Result]:
    """Every test that noticed something must pass without a fault; what an unsound one noticed survived."""
    witnesses = sorted({result.by for result in found if result.verdict == "killed" and "::" in result.by})
    failing = trial.failing(witnesses) if witnesses else set[str]()
    for result in found:
        if result.by not in failing:
            yield result
            continue
        say(f"{result.by} fails without a fault as well; it is no witness for {result.file}:{result.line}")
        doubted = replace(result, verdict="survived")
        kept.add(doubted)
        yield doubted


def _text(session: Session, mutant: Mutant) -> str:
    return session.chosen[mutant.file]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
