"""`make demo-check`: `make demo ONCE=1` in a fresh clone, with the time of every line that it prints.

Fails where the answer does not come, the first line takes longer than two seconds, or nothing is printed for
longer than fifteen.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from btchat.commands.running_server import free_port

ROOT = Path(__file__).parents[1]
FIRST_SECONDS, SILENCE_SECONDS = 2.0, 15.0


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="btchat-first-hour-") as folder:
        clone = Path(folder) / "btchat"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        times, lines = _timed_lines(["make", "demo", "ONCE=1", f"PORT={free_port()}"], clone)
        size = sum(path.lstat().st_size for path in (clone / ".venv").rglob("*") if path.is_file())
    pauses = [after - before for before, after in itertools.pairwise(times)]
    longest = max(range(len(pauses)), key=pauses.__getitem__)
    sys.stdout.write(
        f"\n{times[-1] / 60:.1f} minutes, {size / 1e6:.0f} MB installed\n"
        f"first line after {pauses[0]:.1f} s\n"
        f"longest silence {pauses[longest]:.1f} s, before: {lines[longest]}\n"
    )
    is_answered = any("It disappears." in line for line in lines)
    return int(not is_answered or pauses[0] > FIRST_SECONDS or pauses[longest] > SILENCE_SECONDS)


def _timed_lines(command: list[str], folder: Path) -> tuple[list[float], list[str]]:
    """When it started, printed a line and ended, in seconds; the lines, and an empty one for the end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("BTCHAT_", "PYTHON"))}
    begin, times, lines = time.monotonic(), [0.0], list[str]()
    process = subprocess.Popen(
        command, cwd=folder, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        times.append(time.monotonic() - begin)
        lines.append(line.rstrip())
        sys.stdout.write(f"{times[-1]:7.1f} s  {lines[-1]}\n")
        sys.stdout.flush()
    process.wait()
    return [*times, time.monotonic() - begin], [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
