"""Shows one mutant to its tests, in a copy of the tree, and says what came of it."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tests.mutation.mutants import Mutant
from tests.mutation.selection import Chosen, Selection
from tests.mutation.tree import Copy

Verdict = Literal["killed", "timeout", "survived", "equivalent", "unclear"]

_PASSED, _FAILED, _NO_TESTS = 0, 1, 5
_ATTEMPTS = 4
_PATIENCE = 5  # limits that a run without a fault may take
_SECOND_CHANCE = 3  # times the budget, for what survives it
_SLACK = 2  # a mutant that takes so many times longer hangs
_FIRST_FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+?\.py(?:::\S.*?)?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ended:
    """One pytest run; no `code` means that it took too long."""

    code: int | None
    failed: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests said of one mutant."""

    verdict: Verdict
    seconds: float
    num_tests: int
    by: str = ""  # the test that noticed it


class Trial:
    """Runs mutants in one copy. What fails without a fault as well is no witness, and is left out."""

    def __init__(self, copy: Copy, selection: Selection, budget: float, limit: float) -> None:
        self._copy, self._selection = copy, selection
        self._budget, self._limit = budget, limit
        self._clean: dict[tuple[str, ...], Ended] = {}  # runs without a fault
        self._unsound: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def outcome(self, mutant: Mutant, source: str) -> Outcome:
        """What survives the tests that fit into the budget is shown others, which may take longer."""
        first, chosen = self._shown(mutant, source, 1, frozenset())
        if first.verdict != "survived":
            return first
        second, others = self._shown(mutant, source, _SECOND_CHANCE, frozenset(chosen.ids))
        num_tests = len(chosen.ids) + len(others.ids)
        return replace(second, seconds=first.seconds + second.seconds, num_tests=num_tests)

    def _shown(
        self, mutant: Mutant, source: str, patience: int, without: frozenset[str]
    ) -> tuple[Outcome, Chosen]:
        """The verdict of other tests than those, in so many times the budget and limit."""
        started, limit = time.monotonic(), patience * self._limit
        verdict, by, chosen = "unclear", "", Chosen((), 0.0)
        for _ in range(0 if self._is_stopped else _ATTEMPTS):
            chosen = self._selection.tests(mutant, patience * self._budget, without | self._unsound)
            if not chosen.ids:
                verdict = "survived"
                break
            with self._copy.planted(mutant.file, mutant.planted(source)):
                ended = self._run(chosen.ids, limit)
            if ended.code in {_PASSED, _NO_TESTS}:
                verdict = "survived"
                break
            if ended.code is not None and self._is_witness(ended, chosen):
                verdict, by = "killed", ended.failed
                break
            if ended.code is None:
                clean = self._without_fault(chosen.ids)
                if clean.code is None:
                    break  # nothing can be told from tests that never come to an end
                needed = _SLACK * clean.seconds
                if clean.code == _PASSED and needed <= limit:
                    verdict = "timeout"
                    break
                limit = max(limit, needed)  # the machine is busier than when the tests were measured
        return Outcome(verdict, time.monotonic() - started, len(chosen.ids), by), chosen

    def _is_witness(self, ended: Ended, chosen: Chosen) -> bool:
        """Whether the tests pass without the fault; files that never met before are tried together."""
        file = ended.failed.partition("::")[0]
        if ended.code != _FAILED or not ended.failed or file == chosen.files[0]:
            return True
        clean = self._without_fault(chosen.up_to(file))
        return clean.code == _PASSED

    def _without_fault(self, ids: tuple[str, ...]) -> Ended:
        if ids not in self._clean:
            self._clean[ids] = self._run(ids, _PATIENCE * self._limit)
            self._unsound.update(filter(None, [self._clean[ids].failed]))
        return self._clean[ids]

    def failing(self, ids: Sequence[str]) -> set[str]:
        """Which of these tests fail without any fault."""
        failing: set[str] = set()
        while rest := [id for id in ids if id not in failing]:
            ended = self._run(rest, _PATIENCE * self._limit + 10.0 * len(rest))
            if ended.code != _FAILED or not ended.failed or ended.failed in failing:
                break
            failing.add(ended.failed)
        return failing

    def stop(self) -> None:
        """End what runs, from another thread; its outcome means nothing."""
        self._is_stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _run(self, ids: Sequence[str], limit: float) -> Ended:
        started = time.monotonic()
        listing = self._copy.stem / "tests.txt"
        listing.write_text("\n".join(map(_argument, ids)) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            process = subprocess.Popen(
                [*command, f"@{listing}"],
                cwd=self._copy.root,
                env=self._copy.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._process = process
            if self._is_stopped:
                self.stop()
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                self._copy.end(process)
                self._copy.clean()
            output.seek(0)
            found = _FIRST_FAILURE.search(output.read())
        return Ended(code, found[1] if found else "", time.monotonic() - started)


def _argument(id: str) -> str:
    """A test's name for a file of arguments; one that does not fit on a line stands for its siblings."""
    return id if id.isprintable() else id.partition("[")[0]
