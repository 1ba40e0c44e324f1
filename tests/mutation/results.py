"""What was found: kept line by line, compared with what was judged equivalent, and summed up by folder."""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from tests.mutation.mutants import Mutant
from tests.mutation.running import Outcome, Verdict
from tests.mutation.tree import digest

EQUIVALENTS = Path(__file__).with_name("equivalents.toml")


@dataclass(frozen=True, slots=True)
class Result:
    """One mutant and its verdict, as a line of the results file."""

    key: str
    file: str
    line: int
    kind: str
    scope: str
    before: str
    after: str
    diff: tuple[str, ...]
    verdict: Verdict
    seconds: float
    num_tests: int
    by: str
    source: str  # hash of the file
    tests: str  # hash of all tests

    @classmethod
    def of(cls, mutant: Mutant, text: str, outcome: Outcome, tests: str) -> "Result":
        return cls(
            key=mutant.key,
            file=mutant.file,
            line=mutant.line,
            kind=mutant.kind,
            scope=mutant.scope,
            before=mutant.before,
            after=mutant.after,
            diff=tuple(mutant.diff(text)),
            verdict=outcome.verdict,
            seconds=round(outcome.seconds, 1),
            num_tests=outcome.num_tests,
            by=outcome.by,
            source=digest(iter([text])),
            tests=tests,
        )

    @property
    def is_noticed(self) -> bool:
        return self.verdict in {"killed", "timeout"}

    def __str__(self) -> str:
        by = f"  by {self.by}" if self.by else ""
        where = f"{self.file}:{self.line}"
        return (
            f"{self.verdict:10} {where:48} {self.kind:10} {self.num_tests:4} tests {self.seconds:5.1f} s{by}"
        )


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A mutant that nobody could tell from the original, and why."""

    file: str
    scope: str
    before: str
    after: str
    reason: str

    def fits(self, mutant: Mutant) -> bool:
        ours = (self.file, self.scope, self.before, self.after)
        return ours == (mutant.file, mutant.scope, mutant.before, mutant.after)

    def is_stale(self, texts: Mapping[str, str]) -> bool:
        """Whether its line is in the file no longer."""
        return self.before not in " ".join(texts.get(self.file, "").split())


def equivalents(path: Path = EQUIVALENTS) -> list[Equivalent]:
    listed = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    return [Equivalent(**entry) for entry in listed]


class Results:
    """The results file: one JSON object a line, appended as they come."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, Result] = {}
        if resume and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                said: dict[str, Any] = json.loads(line)
                said["diff"] = tuple(said["diff"])
                self._known[said["key"]] = Result(**said)
        else:
            path.write_text("", encoding="utf-8")

    def known(self, mutant: Mutant, text: str, tests: str) -> Result | None:
        """An earlier verdict that still holds: a survivor's ends when a test has changed since."""
        result = self._known.get(mutant.key)
        if result is None or result.verdict == "unclear" or result.source != digest(iter([text])):
            return None
        return result if result.is_noticed or result.tests == tests else None

    def add(self, result: Result) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def score(results: Iterable[Result]) -> float:
    """The share of mutants that were noticed, of those that are no equivalents; 1 where there are none."""
    counted = [result for result in results if result.verdict != "equivalent"]
    return sum(result.is_noticed for result in counted) / len(counted) if counted else 1.0


def table(results: Iterable[Result]) -> Iterator[str]:
    """A row for each folder, for each kind and for all."""
    listed = list(results)
    heads = "".join(f"{column:>11}" for column in ("mutants", *get_args(Verdict), "score"))
    yield f"{'':40}{heads}"
    groups = {result.file.rpartition("/")[0]: None for result in sorted(listed, key=lambda r: r.file)}
    for folder in groups:
        yield _row(folder, [result for result in listed if result.file.rpartition("/")[0] == folder])
    yield _row("all", listed)
    yield ""
    for kind in sorted({result.kind for result in listed}):
        yield _row(kind, [result for result in listed if result.kind == kind])


def _row(name: str, results: list[Result]) -> str:
    counts = [sum(result.verdict == verdict for result in results) for verdict in get_args(Verdict)]
    cells = "".join(f"{count:>11}" for count in (len(results), *counts))
    return f"{name:40}{cells}{score(results):>11.1%}"


def survivors(results: Iterable[Result]) -> Iterator[str]:
    for result in results:
        if result.verdict in {"survived", "unclear"}:
            where = f"{result.file}:{result.line}"
            yield f"{result.verdict}  {where}  {result.kind}  {result.scope}  ({result.num_tests} tests)"
            yield from (f"    {line}" for line in result.diff)
