"""What the tests of a tree execute, measured once a test file and kept while nothing it rests on changes."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.mutation import recorder
from tests.mutation.tree import ROOT, WORK, Copy, digest, packages, sources

_BATCH = 6  # test files that one pytest run measures
_BATCH_SECONDS = 1800
_TEST_SECONDS = 300  # measured lines run slower


@dataclass(frozen=True, slots=True)
class Test:
    """A test, or a fixture of a wider scope: its cost, and whether it starts processes."""

    id: str
    seconds: float
    spawns: bool
    is_usable: bool
    fixtures: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return self.id.partition("::")[0]


@dataclass(slots=True)
class Measured:
    """Who executes which lines."""

    tests: dict[str, Test] = field(default_factory=dict[str, Test])
    fixtures: dict[str, Test] = field(default_factory=dict[str, Test])
    _lines: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def add(self, record: dict[str, Any]) -> None:
        """Take over the record of one test file."""
        for name, said in record.items():
            of = Test(name, said["seconds"], said["spawns"], said["is_usable"], tuple(said["fixtures"]))
            (self.tests if said["is_test"] else self.fixtures)[name] = of
            for file, bits in said["lines"].items():
                known = self._lines.setdefault(file, {})
                known[name] = known.get(name, 0) | int(bits, 16)

    def executing(self, file: str, lines: Iterable[int]) -> set[str]:
        """Tests that execute one of these lines, themselves or through a fixture."""
        wanted = sum(1 << line for line in set(lines))
        names = {name for name, bits in self._lines.get(file, {}).items() if bits & wanted}
        return {
            test.id for test in self.tests.values() if test.id in names or names.intersection(test.fixtures)
        }

    def spawning(self) -> set[str]:
        """Tests that start a process, themselves or through a fixture."""
        fixtures = {name for name, fixture in self.fixtures.items() if fixture.spawns}
        return {t.id for t in self.tests.values() if t.spawns or fixtures.intersection(t.fixtures)}


class Measuring:
    """Reads what is kept and measures the rest, in copies of the tree."""

    def __init__(self, root: Path = ROOT) -> None:
        self._folder = root / WORK / "measured"
        self._folder.mkdir(parents=True, exist_ok=True)
        product = sources(packages(root), root)
        self._tests = sources(("tests",), root)
        # the tests of this tester execute nothing of the product
        self.files = [
            file for file in self._tests if is_test(file) and not file.startswith("tests/mutation/")
        ]
        support = {file: text for file, text in self._tests.items() if _is_ground(file)}
        named = (part for each in (product, support) for pair in each.items() for part in pair)
        self._ground = digest(part for part in named)

    def measured(self, files: Iterable[str], copies: list[Copy]) -> Iterator[str | Measured]:
        """A line for each batch of test files that is measured; at last what all of them execute."""
        chosen = list(files)
        missing = [file for file in chosen if self._kept(file) is None]
        batches = [missing[i : i + _BATCH] for i in range(0, len(missing), _BATCH)]
        idle: SimpleQueue[Copy] = SimpleQueue()
        for copy in copies:
            idle.put(copy)

        def measure(batch: list[str]) -> str:
            copy = idle.get()
            try:
                return self._measure(batch, copy)
            finally:
                copy.clean()
                idle.put(copy)

        pool = ThreadPoolExecutor(len(copies))
        try:
            steps = as_completed([pool.submit(measure, batch) for batch in batches])
            for number, step in enumerate(steps, start=1):
                yield f"measured {number}/{len(batches)}: {step.result()}"
        finally:  # also when the program is told to end: what is measured is kept
            pool.shutdown(cancel_futures=True)
        whole = Measured()
        for file in chosen:
            whole.add(self._kept(file) or {})
        yield whole

    def _measure(self, batch: list[str], copy: Copy) -> str:
        # a child that was left over may still write into the folder when it goes
        with tempfile.TemporaryDirectory(prefix="btchat-record-", ignore_cleanup_errors=True) as name:
            output = _recorded(batch, copy, name)
            record = Path(name) / "record.json"
            if not record.exists():
                return f"nothing of {batch}: {output[-1000:]}"
            self._keep(batch, json.loads(record.read_text(encoding="utf-8")))
        lines = output.strip().splitlines()
        failed = [line[:200] for line in lines if line.startswith(("FAILED", "ERROR"))]
        return "\n  ".join([f"{batch[0]} ... {lines[-1] if lines else ''}", *failed])

    def _keep(self, batch: list[str], record: dict[str, Any]) -> None:
        for file in batch:
            tests = {name: said for name, said in record.items() if name.startswith(f"{file}::")}
            used = {fixture for said in tests.values() for fixture in said["fixtures"]}
            fixtures = {name: record[name] for name in used if name in record}
            kept = {"key": self._key(file), "names": {**tests, **fixtures}}
            self._path(file).write_text(json.dumps(kept), encoding="utf-8")

    def _kept(self, file: str) -> dict[str, Any] | None:
        path = self._path(file)
        if not path.exists():
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept["names"] if kept["key"] == self._key(file) else None

    def _key(self, file: str) -> str:
        return f"{self._ground} {digest(iter([self._tests[file]]))}"

    def _path(self, file: str) -> Path:
        return self._folder / f"{hashlib.sha256(file.encode()).hexdigest()[:20]}.json"


def _recorded(batch: list[str], copy: Copy, folder: str) -> str:
    """One pytest run under the recorder, which writes into the folder; what pytest said."""
    environment = copy.environment() | {
        recorder.FOLDER: folder,
        f"{recorder.FOLDER}_SOURCES": os.pathsep.join(packages(copy.root)),
    }
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
    command += ["-p", "tests.mutation.recorder", "-o", f"timeout={_TEST_SECONDS}", *batch]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command,
            cwd=copy.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_BATCH_SECONDS)
        finally:
            copy.end(process)
        output.seek(0)
        return output.read()


def _is_ground(file: str) -> bool:
    """Whether all tests may rest on a file below tests/; of this tester only the recorder counts."""
    return not is_test(file) and (file.endswith("mutation/recorder.py") or "/mutation/" not in file)


def is_test(file: str) -> bool:
    return file.startswith("tests/") and file.rpartition("/")[2].startswith("test_") and file.endswith(".py")
