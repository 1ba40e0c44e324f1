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


def test_the_page_has_every_recipe_and_every_ability() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.recipes() in text
    assert [name for name in ABILITIES.values() if f"\n| {name} |" not in text] == []


def test_the_worst_run_counts() -> None:
    yes, cannot, no = ({name: Cell(verdict) for name in ABILITIES} for verdict in ("yes", "cannot", "no"))
    assert merged([yes, cannot])["chat"].verdict == "cannot"
    assert merged([cannot, no, yes])["chat"].is_red
