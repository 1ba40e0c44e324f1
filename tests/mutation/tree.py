"""The files under test: what belongs to them, their hashes, and copies in which faults are planted."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WORK = Path(".work") / "mutation"
_LIBRARIES_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class CopyError(RuntimeError):
    """A copy whose tests would import something else."""


def packages(root: Path = ROOT) -> tuple[str, ...]:
    """The packages that the project installs."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    names = project["tool"]["setuptools"]["packages"]["find"]["include"]
    return tuple(name.rstrip("*") for name in names)


def listed(root: Path = ROOT) -> list[str]:
    """Every file that git tracks or would track, and that is there."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted({name for name in names if name and (root / name).is_file()})


def sources(paths: tuple[str, ...], root: Path = ROOT) -> dict[str, str]:
    """Python files at or below these paths, with their text."""
    chosen = [
        name
        for name in listed(root)
        if name.endswith(".py") and any(name == path or name.startswith(f"{path}/") for path in paths)
    ]
    return {name: (root / name).read_text(encoding="utf-8") for name in chosen}


def digest(texts: Iterator[str]) -> str:
    whole = hashlib.sha256()
    for text in texts:
        whole.update(f"{len(text)} ".encode())
        whole.update(text.encode())
    return whole.hexdigest()[:16]


class Copy:
    """One copy of the tree, for one mutant at a time."""

    def __init__(self, folder: Path, root: Path = ROOT, names: Sequence[str] | None = None) -> None:
        self.root = folder / "tree"
        for name in listed(root) if names is None else names:
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target)
        shared = root.parent / "shared"
        if shared.exists():
            (folder / "shared").symlink_to(shared.resolve())
        self.stem = folder
        self._writes = 0

    def environment(self) -> dict[str, str]:
        threads = dict.fromkeys(_LIBRARIES_THREADS, "1")
        temporary = self.stem / "tmp"
        temporary.mkdir(exist_ok=True)
        return {**os.environ, **threads, "PYTHONPATH": str(self.root), "TMPDIR": str(temporary)}

    def verify(self) -> None:
        """Make sure that this tree, and no installed one, is what a child process imports.

        Raises:
            CopyError: it is another one.
        """
        names = packages(self.root)
        code = "".join(f"import {name}; print({name}.__file__)\n" for name in names)
        command = [sys.executable, "-P", "-c", code]  # as decode children are started: without the folder
        environment = self.environment()
        done = subprocess.run(
            command, cwd="/", env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        for name, path in zip(names, done.stdout.splitlines(), strict=True):
            if not Path(path).is_relative_to(self.root):
                raise CopyError(f"{name} is imported from {path}, not from {self.root}")

    @contextmanager
    def planted(self, file: str, text: str) -> Generator[None]:
        """The copy with another text of one file."""
        path = self.root / file
        original = path.read_text(encoding="utf-8")
        self._write(path, text)
        try:
            yield
        finally:
            self._write(path, original)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        # compiled files are told apart by size and whole seconds: no two texts of ours may share a second
        self._writes += 1
        seconds = 1_000_000_000 + self._writes
        os.utime(path, (seconds, seconds))

    def end(self, process: subprocess.Popen[Any]) -> None:
        """End a run, which leads a session, and what it started: children of other sessions name us, too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        mark = f"PYTHONPATH={self.root}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)

    def clean(self) -> None:
        """What a run left behind is of no use to the next one."""
        shutil.rmtree(self.stem / "tmp", ignore_errors=True)
        shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)
