"""The clients that the suite's own environment can run: the rest is `make clients`."""

import re
import sys
from collections.abc import Iterator

import pytest

from tests.clients import page
from tests.clients.abilities import ABILITIES
from tests.clients.columns import COLUMNS, Column
from tests.clients.environments import OPENAI3, PROGRAMS, Environment
from tests.clients.host import Place, hosted
from tests.clients.trial import Cell, merged, recipe_fault, tried

HERE = Environment("here", OPENAI3.pins, lambda: [sys.executable])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with hosted(tmp_path_factory.mktemp("clients")) as place:
        yield place


@pytest.mark.parametrize("program", ["openai_python.py", "open_webui.py", "curl.py"])
def test_no_cell_is_red(program: str, place: Place) -> None:
    found = tried(Column(program, HERE, "", program), [place])
    assert {name: cell.why for name, cell in found.items() if cell.is_red} == {}


@pytest.mark.parametrize("recipe", ["ask_openai.py", "ask_curl.sh"])
def test_a_recipe_answers_as_it_is_printed(recipe: str, place: Place) -> None:
    column = Column(recipe, HERE, "", "", recipe=recipe)
    assert column.recipe_file is not None
    assert recipe_fault(column, place, column.recipe_file) == ""


def test_every_program_tries_every_ability() -> None:
    for program in {column.program for column in COLUMNS} - {"litellm_proxy.py"}:  # has openai_python.py's
        text = (PROGRAMS / program).read_text(encoding="utf-8")
        named = set(re.findall(r'\bability\(\s*"(\w+)"', text))
        loops = " ".join(re.findall(r"for name in \(([^)]+)\):\s+ability\(", text))
        assert named | set(re.findall(r'"(\w+)"', loops)) == set(ABILITIES), program


def test_the_page_has_every_recipe() -> None:
    assert page.recipes() in page.PAGE.read_text(encoding="utf-8")


def test_the_page_has_each_client_with_its_version_and_each_ability_and_no_red_cell() -> None:
    """A version that was changed since was not measured; a number is a reason that the program has."""
    text = page.PAGE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    (_, *names), *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    absent = re.findall(r"^Not tried: (.+) \(", text, flags=re.M)
    columns = [column for column in COLUMNS if column.name not in absent]
    assert names == [f"{column.name} {column.version}".rstrip() for column in columns]
    assert [name for name, *_cells in rows] == list(ABILITIES.values())
    notes = dict(re.findall(r"^(\d+)\. (.+)$", text, flags=re.M))
    for name, *cells in rows:
        for column, cell in zip(columns, cells, strict=True):
            program = (PROGRAMS / column.program).read_text(encoding="utf-8")
            is_known = cell in notes and notes[cell] in program
            assert cell == "yes" or is_known, (name, column.name, cell)


def test_the_worst_run_counts() -> None:
    yes, cannot, no = ({name: Cell(verdict) for name in ABILITIES} for verdict in ("yes", "cannot", "no"))
    assert merged([yes, cannot])["chat"].verdict == "cannot"
    assert merged([cannot, no, yes])["chat"].is_red
