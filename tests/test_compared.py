"""docs/compared.md: the tests that it names exist, what lacks is said, its counts are those of its rows."""

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.reliability.goal import all_goals

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "compared.md").read_text(encoding="utf-8")
ROWS = {
    "Self-hosted engines": 46,
    "Hosted services, blueprints, demos and chat pages": 30,
    "What their users complain of": 25,
    "What they complain of since": 12,
    "What none of them has": 15,
}
VERDICTS = ("yes", "partly", "not yet")
GOALS = "tests/reliability/test_goals.py"


@dataclass(frozen=True, slots=True)
class Row:
    """One feature, complaint or opening."""

    what: str
    here: str
    tests: tuple[tuple[str, str], ...]  # path and name

    @property
    def verdict(self) -> str:
        return self.here.partition(":")[0]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows(part: str) -> list[Row]:
    section = PAGE.split(f"\n## {part}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    found = list[Row]()
    for line in lines[2:]:
        what, _elsewhere, here, tests = cells(line)
        named = re.findall(r"`([^`]+)::([^`]+)`", tests)
        assert tests == ("<br>".join(f"`{path}::{name}`" for path, name in named) or "-"), what
        found.append(Row(what, here, tuple(named)))
    return found


@cache
def names_in(path: str) -> frozenset[str]:
    if not (ROOT / path).is_file():
        return frozenset()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(
        each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("part", ROWS)
def test_a_part_has_all_its_rows(part: str) -> None:
    found = [row.what for row in rows(part)]
    assert len(found) == len(set(found)) == ROWS[part]
    numbers = [int(number[1]) for what in found if (number := re.match(r"(\d+)\. ", what))]
    assert numbers in ([], list(range(1, ROWS[part] + 1)))


@pytest.mark.parametrize("part", ROWS)
def test_every_test_that_is_named_exists(part: str) -> None:
    goals = {f"test_goal[{goal.name}]" for goal in all_goals() if not goal.is_long}
    for row in rows(part):
        for path, name in row.tests:
            assert name in (goals if path == GOALS else names_in(path)), (row.what, path, name)


@pytest.mark.parametrize("part", ROWS)
def test_a_row_has_a_test_or_says_what_lacks(part: str) -> None:
    for row in rows(part):
        assert row.verdict in VERDICTS, row.what
        assert row.tests or row.verdict == "not yet", row.what
        assert row.verdict != "partly" or re.search(r"\blacks?\b", row.here), row.what


def test_the_counts_are_those_of_the_rows() -> None:
    counted = [
        (part, [len(found), *(Counter(row.verdict for row in found)[verdict] for verdict in VERDICTS)])
        for part, found in ((part, rows(part)) for part in ROWS)
    ]
    counted.append(
        ("all", [sum(column) for column in zip(*(numbers for _, numbers in counted), strict=True)])
    )
    table = "\n".join(f"| {part} | {' | '.join(map(str, numbers))} |" for part, numbers in counted)
    assert f"| part | rows | {' | '.join(VERDICTS)} |\n|---|---|---|---|---|\n{table}\n" in PAGE


def test_every_source_is_linked_and_used() -> None:
    assert set(re.findall(r"\]\[([\w-]+)\]", PAGE)) == set(
        re.findall(r"^\[([\w-]+)\]: https://", PAGE, flags=re.M)
    )
