"""A client's program is run, and what it says about each ability is read."""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from btchat.commands.running_server import free_port
from tests.clients.abilities import ABILITIES
from tests.clients.columns import Column
from tests.clients.environments import PROGRAMS, WORK
from tests.clients.host import Place

_MARK = "CELL "
_GATEWAY_PORT = "4000"  # of recipes that start one
_SECONDS = 300
_WORST = ("no", "cannot", "yes")


@dataclass(frozen=True, slots=True)
class Cell:
    """`yes`, `cannot` where the client itself is in the way, or `no`; and why."""

    verdict: str
    why: str = ""

    @property
    def is_red(self) -> bool:
        return self.verdict == "no"


Tried = Mapping[str, Cell]
"""A cell for each ability."""


def tried(column: Column, places: Sequence[Place]) -> Tried:
    """What a client can in all places."""
    return merged([_one(column, replace(place, model=column.model or place.model)) for place in places])


def merged(runs: Sequence[Tried]) -> Tried:
    """The worst of each ability's cells."""
    return {
        name: min((run[name] for run in runs), key=lambda cell: _WORST.index(cell.verdict))
        for name in ABILITIES
    }


def _one(column: Column, place: Place) -> Tried:
    program = (WORK / "node" / "programs" if column.program.endswith(".mjs") else PROGRAMS) / column.program
    try:
        done = subprocess.run(
            [*column.environment.start(), str(program)],
            cwd=place.folder,
            env=place.environment(),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        said, end = done.stdout, f"ended with {done.returncode}: {done.stderr.strip()[-300:]}"
    except subprocess.TimeoutExpired as error:
        said, end = (error.stdout or b"").decode(), f"took more than {_SECONDS} s"
    found = dict(_read(said.splitlines()))
    return {name: found.get(name, Cell("no", f"not tried: {column.program} {end}")) for name in ABILITIES}


def _read(lines: Iterable[str]) -> Iterable[tuple[str, Cell]]:
    for line in lines:
        if line.startswith(_MARK):
            cell = json.loads(line.removeprefix(_MARK))
            yield cell["ability"], Cell(cell["verdict"], cell["why"])


def recipe_fault(column: Column, place: Place, recipe: Path) -> str:
    """What is wrong with a recipe that is run as it is printed; empty where it answers."""
    code = recipe.read_text(encoding="utf-8")
    code = code.replace("localhost:8000", place.url.removeprefix("http://")).replace("none", place.key)
    code = code.replace(_GATEWAY_PORT, str(free_port()))
    folder = WORK / "node" if recipe.suffix == ".mjs" else Path(place.folder)
    (folder / recipe.name).write_text(code, encoding="utf-8")
    (folder / "clip.mp4").write_bytes(Path(place.video).read_bytes())
    start = column.environment.start()
    path = f"{Path(start[0]).parent}:{place.environment()['PATH']}"
    if recipe.suffix == ".sh":
        start = ["bash", "-e"]
    try:
        done = subprocess.run(
            [*start, recipe.name],
            cwd=folder,
            env=place.environment() | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "took more than 60 s"
    missing = [part for part in ("It disappears.", "0.5") if part not in done.stdout]
    return f"without {missing}: {done.stdout[-200:]} {done.stderr.strip()[-300:]}" if missing else ""
