"""Which tests a mutant is shown to, and in which order."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.mutation.focus import Focus
from tests.mutation.imports import Imports
from tests.mutation.measured import Measured, Test
from tests.mutation.mutants import Mutant


@dataclass(frozen=True, slots=True)
class Chosen:
    """Tests in the order of their run, and how long they took when they were measured."""

    ids: tuple[str, ...]
    seconds: float

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(id.partition("::")[0] for id in self.ids))

    def up_to(self, file: str) -> tuple[str, ...]:
        """The tests that run before this file is through."""
        known = self.files[: self.files.index(file) + 1] if file in self.files else self.files
        return tuple(id for id in self.ids if id.partition("::")[0] in known)


class Selection:
    """Tests of the mirror file first, then of its folder, then the fastest of those that execute the line."""

    def __init__(self, measured: Measured, focus: Focus, imports: Imports) -> None:
        self._measured, self._focus, self._imports = measured, focus, imports
        self._spawning = measured.spawning()

    def tests(self, mutant: Mutant, seconds: float, without: frozenset[str] = frozenset()) -> Chosen:
        """As many as fit into so many seconds, at least one.

        Lines that run in child processes only, or in ones that are killed, are executed by no measured test:
        tests of the mirror file and those that start a process which can load the file come last.
        """
        executing: set[str] = set()
        for file, lines in self._focus.lines(mutant).items():
            executing |= self._measured.executing(file, lines)
        mirror = mirror_of(mutant.file)
        ranked: list[Test] = []
        for group in (
            [id for id in executing if id.startswith(f"{mirror}::")],
            [id for id in executing if id.startswith(f"{mirror.rpartition('/')[0]}/")],
            executing,
            [id for id in self._measured.tests if id.startswith(f"{mirror}::")],
            [id for id in self._spawning if mutant.file in self._imports.reached(id.partition("::")[0])],
        ):
            tests = [self._measured.tests[id] for id in group]
            ranked += sorted(tests, key=lambda test: (test.seconds, test.id))
        usable = [test for test in dict.fromkeys(ranked) if test.is_usable and test.id not in without]
        within = self._within(usable, seconds, mirror)
        if within.ids or not usable:
            return within
        slow = [test for test in usable if test.id in executing] or usable
        return self._within([min(slow, key=self._whole_cost)], float("inf"), mirror)

    def _whole_cost(self, test: Test) -> float:
        fixtures = (self._measured.fixtures.get(name) for name in test.fixtures)
        return test.seconds + sum(fixture.seconds for fixture in fixtures if fixture)

    def _within(self, ranked: Iterable[Test], seconds: float, mirror: str) -> Chosen:
        paid: set[str] = set()
        taken: list[Test] = []
        total = 0.0
        for test in ranked:
            new = [name for name in test.fixtures if name not in paid and name in self._measured.fixtures]
            cost = test.seconds + sum(self._measured.fixtures[name].seconds for name in new)
            if total + cost <= seconds:
                taken.append(test)
                paid.update(new)
                total += cost
        return Chosen(tuple(self._ordered(taken, mirror)), total)

    def _ordered(self, taken: list[Test], mirror: str) -> list[str]:
        """A file's tests stand together and in their own order: wide fixtures are set up once."""
        costs: dict[str, float] = {}
        for test in taken:
            costs[test.file] = costs.get(test.file, 0.0) + test.seconds
        files = sorted(costs, key=lambda file: (file != mirror, costs[file], file))
        place = {id: number for number, id in enumerate(self._measured.tests)}
        ordered = sorted(taken, key=lambda test: (files.index(test.file), place[test.id]))
        return [test.id for test in ordered]


def mirror_of(file: str) -> str:
    """server/admission.py -> tests/server/test_admission.py, whether or not there is one."""
    folder, _, name = file.rpartition("/")
    return f"tests/{folder}/test_{name}"
