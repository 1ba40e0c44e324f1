"""`make clients`: every client tries every ability, and docs/clients.md is written."""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.clients import page
from tests.clients.columns import COLUMNS, Column
from tests.clients.environments import AbsentError
from tests.clients.faults import Interleaved, interleaved
from tests.clients.generated import NAME, generated_fault
from tests.clients.host import Place, gateways, hosted
from tests.clients.trial import Tried, recipe_fault, tried


@dataclass(frozen=True, slots=True)
class Result:
    """What a client can, and what is wrong with its recipe."""

    column: Column
    tried: Tried
    recipe_fault: str

    @property
    def faults(self) -> list[str]:
        red = [f"{name}: {cell.why}" for name, cell in self.tried.items() if cell.is_red]
        return red + ([f"recipe: {self.recipe_fault}"] if self.recipe_fault else [])


def main() -> int:
    """1 where a cell is red that the client itself could do; with a pattern, those clients alone, no page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="a regular expression for names of clients")
    only = re.compile(parser.parse_args().only, re.IGNORECASE)
    begin = time.monotonic()
    columns = [column for column in COLUMNS if only.search(column.name)]
    absent = {column.name: why for column in columns if (why := _absence(column))}
    _say(f"installed in {time.monotonic() - begin:.0f} s")
    found = list(_measured([column for column in columns if column.name not in absent], only))
    results = [each for each in found if isinstance(each, Result)]
    behind = [each for each in found if isinstance(each, Interleaved)]
    if not only.pattern:
        table = {result.column: result.tried for result in results}
        page.PAGE.write_text(page.text(table, absent, [each.text for each in behind]), encoding="utf-8")
    faults = [f"{result.column.name}: {fault}" for result in results for fault in result.faults]
    faults += [f"gateway: {fault}" for each in behind for fault in each.faults[:5]]
    faults += [f"{NAME}: {each}" for each in found if isinstance(each, str) and each]
    _say("\n".join(faults))
    _say(f"{len(results)} clients, {len(faults)} red in {time.monotonic() - begin:.0f} s")
    return 1 if faults or not found else 0


def _absence(column: Column) -> str:
    """Why a client cannot be tried on this machine; empty where it is installed."""
    try:
        column.environment.start()
    except AbsentError as error:
        _say(f"without {column.name}: {error}")
        return str(error)
    return ""


def _measured(columns: Sequence[Column], only: re.Pattern[str]) -> Iterator[Result | Interleaved | str]:
    """Each client's result, what gateways make of faulty requests, and what is wrong with a generated one."""
    with tempfile.TemporaryDirectory(prefix="btchat-clients-") as name, ExitStack() as stack:
        place = stack.enter_context(hosted(Path(name)))
        through = stack.enter_context(gateways(place)) if any(each.is_gateway for each in columns) else []
        for column in columns:
            yield _result(column, place, through if column.is_gateway else [place])
        if through:
            found = interleaved(through)
            _say(found.text)
            yield found
        if only.search(NAME):
            fault = generated_fault(place)
            _say(f"{NAME}: {'red' if fault else 'yes'}")
            yield fault


def _result(column: Column, place: Place, places: Sequence[Place]) -> Result:
    begin = time.monotonic()
    found = tried(column, places)
    recipe = column.recipe_file
    result = Result(column, found, recipe_fault(column, place, recipe) if recipe else "")
    counts = f"{sum(cell.verdict == 'yes' for cell in found.values())} yes, {len(result.faults)} red"
    _say(f"{column.name} {column.version}: {counts}, {time.monotonic() - begin:.0f} s")
    return result


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


if __name__ == "__main__":
    sys.exit(main())
