"""A pytest plugin that measures which lines every test executes: `-p tests.mutation.recorder`.

What a fixture of a wider scope executes, in its process and in those that it starts, counts for every test
that uses the fixture. Child processes are measured as well when they inherit the environment and end by
themselves; of others only the start is noted.
"""

import json
import os
import sqlite3
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

FOLDER = "MUTATION_RECORD"  # environment: where the record goes; no BTCHAT_, which is for settings
CONTEXT = "MUTATION_CONTEXT"  # environment of children: who started them
_SETTINGS = """[run]
source_dirs = {sources}
data_file = {folder}/lines
parallel = true
core = ctrace
context = ${{{context}-nobody}}
patch = _exit
sigterm = true
disable_warnings = no-data-collected, module-not-measured, module-not-imported, couldnt-parse
"""


class Recorder:
    """Knows whose turn it is, and writes at the end what everyone executed."""

    def __init__(self, folder: Path, root: Path, sources: list[str]) -> None:
        self._folder, self._root = folder, root
        self._numbers: dict[str, str] = {}  # a name -> its context; names may hold anything
        self._current = ""
        self.seconds: dict[str, float] = {}
        self.spawned: set[str] = set()
        self.unusable: set[str] = set()
        self.uses: dict[str, list[str]] = {}
        settings = folder / "coveragerc"
        below = ", ".join(str(root / source) for source in sources)
        settings.write_text(_SETTINGS.format(sources=below, folder=folder, context=CONTEXT), encoding="utf-8")
        self._coverage = coverage.Coverage(config_file=str(settings), data_suffix="main")
        self._coverage.start()
        os.environ["COVERAGE_PROCESS_START"] = str(settings)
        sys.addaudithook(self._hear)

    def turn(self, name: str) -> str:
        """From now on lines are executed for `name`; whose turn it was before."""
        before, self._current = self._current, name
        context = self._numbers.setdefault(name, f"n{len(self._numbers)}") if name else "nobody"
        self._coverage.switch_context(context)
        os.environ[CONTEXT] = context
        return before

    def _hear(self, event: str, _: tuple[object, ...]) -> None:
        if event == "subprocess.Popen":
            self.spawned.add(self._current)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self.uses[item.nodeid] = _wide_fixtures(item)
        started, before = time.perf_counter(), sum(self.seconds.values())
        self.turn(item.nodeid)
        try:
            return (yield)
        finally:
            self.turn("")
            of_fixtures = sum(self.seconds.values()) - before
            self.seconds[item.nodeid] = time.perf_counter() - started - of_fixtures

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, Any, Any]:
        if fixturedef.scope == "function":
            return (yield)
        name = _fixture_name(fixturedef)
        inside = sum(self.seconds.values())
        before, started = self.turn(name), time.perf_counter()
        try:
            return (yield)
        finally:
            nested = sum(self.seconds.values()) - inside
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started - nested
            self.turn(before)
            # finalisers run last in, first out: what the fixture closes is closed in its own name
            fixturedef.addfinalizer(lambda: self.turn(name) and None)

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[object]) -> None:
        if fixturedef.scope != "function" and self._current == _fixture_name(fixturedef):
            self.turn("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed":
            self.unusable.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        del os.environ["COVERAGE_PROCESS_START"]
        self._coverage.stop()
        self._coverage.save()
        lines = self._lines()
        names = {
            name: {
                "seconds": round(self.seconds.get(name, 0.0), 4),
                "spawns": name in self.spawned,
                "is_usable": name not in self.unusable,
                "fixtures": self.uses.get(name, []),
                "is_test": name in self.uses,
                "lines": lines.get(context, {}),
            }
            for name, context in self._numbers.items()
        }
        (self._folder / "record.json").write_text(json.dumps(names), encoding="utf-8")

    def _lines(self) -> dict[str, dict[str, str]]:
        """Lines by context and file, as a number in hexadecimal whose bit n stands for line n."""
        whole: dict[str, dict[str, int]] = {}
        for path in self._folder.glob("lines.*"):
            for context, file, bits in _line_bits(path):
                if Path(file).is_relative_to(self._root):
                    files = whole.setdefault(context.rpartition("|")[2], {})  # "static|dynamic"
                    name = str(Path(file).relative_to(self._root))
                    files[name] = files.get(name, 0) | int.from_bytes(bits, "little")
        return {who: {file: f"{bits:x}" for file, bits in files.items()} for who, files in whole.items()}


def _line_bits(path: Path) -> Iterator[tuple[str, str, bytes]]:
    query = (
        "select context.context, file.path, line_bits.numbits from line_bits "
        "join context on context.id = line_bits.context_id join file on file.id = line_bits.file_id"
    )
    connection = sqlite3.connect(path)
    try:
        yield from connection.execute(query)
    except sqlite3.DatabaseError:  # a child was killed while it wrote: it counts as one that was not measured
        return
    finally:
        connection.close()


def _fixture_name(fixture: pytest.FixtureDef[object]) -> str:
    return f"fixture {fixture.baseid}::{fixture.argname}"


def _wide_fixtures(item: pytest.Item) -> list[str]:
    known: dict[str, Any] = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}  # pyright: ignore[reportPrivateUsage] - no public way
    wide = [definitions[-1] for definitions in known.values() if definitions[-1].scope != "function"]
    return [_fixture_name(fixture) for fixture in wide]


def pytest_configure(config: pytest.Config) -> None:
    folder = os.environ.get(FOLDER)
    if folder:
        sources = os.environ[f"{FOLDER}_SOURCES"].split(os.pathsep)
        config.pluginmanager.register(Recorder(Path(folder), config.rootpath, sources))
