"""The environments of the clients: none of them is the server's, each is made from pinned files."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / ".work" / "clients"
PROGRAMS = HERE / "programs"
_UV = ROOT / ".work" / "uv" / "bin" / "uv"


class AbsentError(Exception):
    """What this machine lacks to run a client."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where programs of a kind run: `start` is the beginning of their command, `pins` what is installed."""

    name: str
    pins: Path
    start: Callable[[], list[str]]

    def version(self, package: str) -> str:
        """The version of a package that the file of pins names."""
        text = self.pins.read_text(encoding="utf-8")
        if self.pins.suffix == ".json":
            return json.loads(text)["dependencies"][package]
        (found,) = re.findall(rf"^{re.escape(package)}(?:\[\w+\])?==(\S+)$", text, flags=re.M)
        return found


def _python(name: str) -> Environment:
    pins = HERE / f"requirements-{name}.txt"

    @cache
    def start() -> list[str]:
        python = WORK / name / "bin" / "python"
        if _is_stale(WORK / name, pins):
            shutil.rmtree(WORK / name, ignore_errors=True)
            _run(str(_UV), "venv", "--quiet", "--python", "3.11", str(WORK / name))
            _run(str(_UV), "pip", "install", "--quiet", "--python", str(python), "-r", str(pins))
            _settle(WORK / name, pins)
        return [str(python)]

    return Environment(name, pins, start)


@cache
def _node() -> list[str]:
    folder, pins = WORK / "node", HERE / "package.json"
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise AbsentError(f"no {program}")
    if _is_stale(folder, pins):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(pins, folder)
        _run(
            *("npm", "install", "--prefix", str(folder), "--quiet", "--no-audit", "--no-fund"),
            *("--no-package-lock", "--ignore-scripts"),
        )
        _settle(folder, pins)
    # a module finds its packages from where it lies
    shutil.copytree(PROGRAMS, folder / "programs", dirs_exist_ok=True)
    return ["node"]


OPENAI3 = _python("openai3")
OPENAI2 = _python("openai2")
AIPERF = _python("aiperf")
OPENAPI = _python("openapi")
NODE = Environment("node", HERE / "package.json", _node)


def _is_stale(folder: Path, pins: Path) -> bool:
    stamp = folder / ".installed"
    return not stamp.exists() or stamp.read_bytes() != pins.read_bytes()


def _settle(folder: Path, pins: Path) -> None:
    """Written last: an installation that was broken off is made anew."""
    shutil.copy(pins, folder / ".installed")


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except FileNotFoundError as error:
        raise AbsentError(f"no {error.filename}") from error
    if done.returncode:
        raise AbsentError(f"{' '.join(command[:3])}: {done.stderr.strip()[-300:]}")
