"""`make demo-check`: the first commands of a newcomer in a fresh clone, and when they print what.

Fails where the demo's answer does not come, a first line takes longer than two seconds, or nothing is printed
for longer than fifteen.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from btchat.commands.running_server import free_port

ROOT = Path(__file__).parents[1]
FIRST_SECONDS, SILENCE_SECONDS = 2.0, 15.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a command printed, and when: seconds of its start, of every line, and of its end."""

    code: int
    times: tuple[float, ...]
    lines: tuple[str, ...]

    @property
    def pauses(self) -> list[tuple[float, str]]:
        """The seconds before every line, and before the end."""
        waits = [after - before for before, after in pairwise(self.times)]
        return list(zip(waits, (*self.lines, "(the end)"), strict=True))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="btchat-first-hour-") as folder:
        clone = Path(folder) / "btchat"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        demo = run(clone, "demo", "ONCE=1", f"PORT={free_port()}")
        told = [describe("make demo ONCE=1", demo, clone)]
        setup = run(clone, "setup")
        told.append(describe("make setup", setup, clone))
    sys.stdout.write("\n".join(["", *told, ""]))
    is_answered = any("It disappears." in line for line in demo.lines)
    return int(not (is_answered and is_lively(demo) and is_lively(setup)))


def run(folder: Path, *arguments: str) -> Transcript:
    """Run make, and show its lines with their times."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("BTCHAT_", "PYTHON"))}
    begin, times, lines = time.monotonic(), [0.0], list[str]()
    command = ["make", *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=folder, env=clean, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        times.append(time.monotonic() - begin)
        lines.append(line.rstrip())
        sys.stdout.write(f"{times[-1]:7.1f} s  {lines[-1]}\n")
        sys.stdout.flush()
    process.wait()
    return Transcript(process.returncode, (*times, time.monotonic() - begin), tuple(lines))


def is_lively(told: Transcript) -> bool:
    waits = [seconds for seconds, _line in told.pauses]
    return told.code == 0 and waits[0] <= FIRST_SECONDS and max(waits) <= SILENCE_SECONDS


def describe(command: str, told: Transcript, clone: Path) -> str:
    files = [path for path in (clone / ".venv").rglob("*") if path.is_file() and not path.is_symlink()]
    seconds, line = max(told.pauses)
    size = sum(path.stat().st_size for path in files)
    return (
        f"{command}: {told.times[-1] / 60:.1f} minutes, {size / 1e6:.0f} MB in .venv, "
        f"first line after {told.pauses[0][0]:.1f} s, longest silence {seconds:.1f} s, before: {line[:60]}"
    )


if __name__ == "__main__":
    sys.exit(main())
