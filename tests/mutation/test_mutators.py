"""Planted faults: each kind changes what it says, nothing else, and never what cannot matter."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from tests.mutation.focus import Focus
from tests.mutation.imports import Imports
from tests.mutation.measured import Measured
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.mutators import KINDS
from tests.mutation.results import Equivalent, Result, Results, score
from tests.mutation.running import Ended, Outcome, Trial
from tests.mutation.sampling import drawn, locks
from tests.mutation.selection import Selection
from tests.mutation.tree import Copy

FILE = "shop/till.py"
EXAMPLES = {
    "compare": ("x = a == b", "x = a != b"),
    "boundary": ("x = a < b", "x = a <= b"),
    "and/or": ("x = a and b", "x = a or b"),
    "not": ("x = not a", "x = a"),
    "condition": ("x = 1 if a else b", "x = 1 if not a else b"),
    "constant": ("x = [1.0, a]", "x = [1.5, a]"),
    "flag": ("@dataclass(frozen=True, slots=True)\nclass A: pass", "@dataclass(frozen=False, slots=True)"),
    "arithmetic": ("x = 2 * (a + b)", "x = 2 * ((a - b))"),
    "return": ("def f():\n    return a", "    return None"),
    "raise": ("def f():\n    raise E", "    pass"),
    "statement": ("f(a)", "pass"),
    "await": ("async def f():\n    await g()", "    pass"),
    "min/max": ("x = min(a)", "x = max(a)"),
    "arguments": ("x = f(a, b)", "x = f(b, a)"),
    "lock": ("self._lock = Lock()\nwith self._lock:\n    a = b", "if True:"),
}


def of(source: str, kind: str | None = None) -> list[Mutant]:
    return [mutant for mutant in mutants(FILE, source) if kind in {None, mutant.kind}]


def test_every_kind_has_an_example() -> None:
    assert set(EXAMPLES) == set(KINDS)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_kind_plants_its_fault(kind: str) -> None:
    source, line = EXAMPLES[kind]
    assert line in [text for mutant in of(source, kind) for text in mutant.planted(source).splitlines()]


@pytest.mark.parametrize(
    "source",
    [
        '"""Text."""',
        "def f() -> None: ...",
        "x: Literal[3]",
        "def f(a: Annotated[int, 3]) -> C[3]: pass",
        "Name = Able | Baker",
        "if TYPE_CHECKING:\n    x = 3",
        "if __name__ == '__main__':\n    main()",
        "class A(Protocol):\n    x = 3",
        "log.info(3)",
        "x = f'{a + 3}'",
        "x = 'text for people'",
    ],
)
def test_what_nobody_could_notice_is_left_alone(source: str) -> None:
    assert not [mutant for mutant in of(source) if mutant.kind != "raise"]


def test_columns_count_characters_and_not_bytes() -> None:
    source = "x = 'äöü', a < b\n"
    (mutant,) = of(source, "boundary")
    assert mutant.planted(source) == "x = 'äöü', a <= b\n"


def test_a_part_keeps_its_place_in_the_whole() -> None:
    source = "x = a * (b + c) ** 2\n"
    assert "x = a * ((b + c) * 2)\n" in [mutant.planted(source) for mutant in of(source, "arithmetic")]


def test_a_lock_among_several_is_taken_away_alone() -> None:
    source = "with open(p) as f, self._lock:\n    pass\n"
    (mutant,) = of(source, "lock")
    assert mutant.planted(source).startswith("with open(p) as f, __import__")


def test_conditions_are_locks_and_files_are_none() -> None:
    source = "self._changed = threading.Condition()\nwith self._changed:\n    pass\nwith open(p):\n    pass\n"
    assert [mutant.line for mutant in locks({FILE: source})] == [2]


def test_equal_seeds_draw_equal_mutants_and_none_twice() -> None:
    texts = {"a.py": "x = 1 + 2\n" * 9, "b.py": "y = f(a, b)\n"}
    first = drawn(texts, 30, seed=4)
    assert first == drawn(texts, 30, seed=4)
    assert first != drawn(texts, 30, seed=5)
    assert len({mutant.key for mutant in first}) == len(first) == 28


def test_an_equivalent_is_known_by_its_class_and_not_by_its_line() -> None:
    source = dedent("""
        @dataclass(frozen=True)
        class A: pass
        @dataclass(frozen=True)
        class B: pass
    """)
    line = "@dataclass(frozen=True)"
    entry = Equivalent(FILE, "B", line, "@dataclass(frozen=False)", "nobody writes to it")
    assert [mutant.line for mutant in of(source) if entry.fits(mutant)] == [4]


SOURCE = """LIMIT = 3


def over(x):
    return x > LIMIT


def under(x):
    return x < 1


def other(x):
    return x * 2
"""


def record(**lines: list[int]) -> dict[str, object]:
    """Tests by name with the lines of till.py that they execute; `slow` takes ten seconds."""
    return {
        f"tests/{name}": {
            "seconds": 10.0 if "slow" in name else 0.1,
            "spawns": False,
            "is_usable": True,
            "fixtures": [],
            "is_test": True,
            "lines": {FILE: f"{sum(1 << line for line in executed):x}"},
        }
        for name, executed in lines.items()
    }


def selection(names: dict[str, object]) -> Selection:
    measured = Measured()
    measured.add(names)
    return Selection(measured, Focus({FILE: SOURCE}), Imports({FILE: SOURCE}))


def chosen(names: dict[str, object], kind: str, line: int, seconds: float = 40) -> tuple[str, ...]:
    (mutant,) = [mutant for mutant in of(SOURCE, kind) if mutant.line == line]
    return selection(names).tests(mutant, seconds).ids


def test_tests_of_the_mirror_file_come_first_then_the_fastest() -> None:
    names = record(
        **{"test_b.py::slow": [9], "test_a.py::t": [9], "shop/test_till.py::slow": [9], "c.py::t": [5]}
    )
    expected = ("tests/shop/test_till.py::slow", "tests/test_a.py::t", "tests/test_b.py::slow")
    assert chosen(names, "boundary", 9) == expected
    assert chosen(names, "boundary", 9, seconds=11) == expected[:2]


def test_a_constant_is_shown_to_the_tests_of_its_users() -> None:
    names = record(**{"test_a.py::t": [5], "test_b.py::t": [9], "test_c.py::t": [13]})
    assert chosen(names, "constant", 1) == ("tests/test_a.py::t",)


def test_what_a_wide_fixture_executes_counts_for_all_that_use_it() -> None:
    names = record(**{"test_a.py::t": [], "test_b.py::t": [], "test_c.py::fixture": [9]})
    text = json.dumps(names).replace(
        '"is_test": true, "lines": {"shop/till.py": "200"}',
        '"is_test": false, "lines": {"shop/till.py": "200"}',
    )
    said = json.loads(text)
    said["tests/test_b.py::t"]["fixtures"] = ["tests/test_c.py::fixture"]
    assert chosen(said, "boundary", 9) == ("tests/test_b.py::t",)


def test_a_module_that_is_started_by_name_is_reached() -> None:
    texts = {
        "tests/test_a.py": "import shop.door",
        "shop/__init__.py": "",
        "shop/door.py": "COMMAND = ['-m', 'shop.till']",
        FILE: "from . import drawer",
        "shop/drawer.py": "",
        "shop/cellar.py": "",
    }
    assert Imports(texts).reached("tests/test_a.py") == set(texts) - {"shop/cellar.py"}


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A project of one file and three tests: a sharp one, a blunt one, and one that always fails."""
    root = tmp_path / "project"
    files = {
        FILE: SOURCE,
        "shop/__init__.py": "",
        "tests/test_blunt.py": "def test_it():\n    from shop.till import under\n    assert under(0)\n",
        "tests/test_sharp.py": "def test_it():\n    from shop.till import under\n    assert not under(1)\n",
        "tests/test_wrong.py": "def test_it():\n    raise AssertionError\n",
        "pyproject.toml": "[tool.setuptools.packages.find]\ninclude = ['shop*']\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / ".git").mkdir()
    folder = tmp_path / "copy"
    folder.mkdir()
    return Copy(folder, root, names=list(files))


def verdict(copy: Copy, *tests: str, mutant: Mutant | None = None) -> Outcome:
    mutant = mutant or next(each for each in of(SOURCE, "boundary") if each.line == 9)
    names = record(**{f"{test}.py::test_it": [5, 9] for test in tests})
    return Trial(copy, selection(names), budget=40, limit=30).outcome(mutant, SOURCE)


def test_a_copy_is_imported_and_left_as_it_was(copy: Copy) -> None:
    copy.verify()
    found = verdict(copy, "test_blunt", "test_sharp")
    assert (found.verdict, found.by) == ("killed", "tests/test_sharp.py::test_it")
    assert (copy.root / FILE).read_text() == SOURCE


def test_a_fault_that_no_test_minds_survives(copy: Copy) -> None:
    assert verdict(copy, "test_blunt").verdict == "survived"


def test_a_test_that_fails_without_the_fault_is_no_witness(copy: Copy) -> None:
    found = verdict(copy, "test_blunt", "test_wrong")
    assert (found.verdict, found.by) == ("survived", "")


def test_a_fault_at_import_is_noticed(copy: Copy) -> None:
    broken = next(each for each in of(SOURCE, "constant") if each.line == 1)
    broken = replace(broken, text="nothing")
    assert verdict(copy, "test_sharp", mutant=broken).verdict == "killed"


class ScriptedTrial(Trial):
    """Its runs end as they are told to, in turn; `limits` are what they were given."""

    def __init__(self, copy: Copy, *ends: Ended) -> None:
        names = record(**{"test_a.py::t": [9]})
        super().__init__(copy, selection(names), budget=40, limit=60)
        self._ends = list(ends)
        self.limits: list[float] = []

    def _run(self, ids: Sequence[str], limit: float) -> Ended:
        self.limits.append(limit)
        return self._ends.pop(0)


def test_a_run_that_takes_too_long_is_compared_with_one_without_the_fault(copy: Copy) -> None:
    mutant = next(each for each in of(SOURCE, "boundary") if each.line == 9)
    late, passed = Ended(None, "", 60), Ended(0, "", 50)
    assert ScriptedTrial(copy, late, Ended(0, "", 3)).outcome(mutant, SOURCE).verdict == "timeout"
    slow = ScriptedTrial(copy, late, passed, passed)  # the machine is slow, and not the mutant
    assert slow.outcome(mutant, SOURCE).verdict == "survived"
    assert slow.limits == [60, 300, 100]
    assert ScriptedTrial(copy, *[late] * 9).outcome(mutant, SOURCE).verdict == "unclear"


def result(verdict_of: str, tests: str = "t") -> Result:
    mutant = of(SOURCE, "boundary")[0]
    return Result.of(mutant, SOURCE, Outcome(verdict_of, 1.0, 1), tests)  # pyright: ignore[reportArgumentType]


def test_a_kept_survivor_is_tried_again_when_a_test_has_changed(tmp_path: Path) -> None:
    path, mutant = tmp_path / "results.jsonl", of(SOURCE, "boundary")[0]
    Results(path, resume=False).add(result("survived"))
    kept = Results(path, resume=True)
    assert kept.known(mutant, SOURCE, "t") == result("survived")
    assert kept.known(mutant, SOURCE, "others") is None
    assert kept.known(mutant, f"{SOURCE}\n", "t") is None


def test_equivalents_count_neither_way() -> None:
    assert score([result("killed"), result("timeout"), result("survived"), result("equivalent")]) == 2 / 3
