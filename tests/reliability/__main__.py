"""`make reliability`: goals in their full size, as a table on the terminal and in docs/reliability.md."""

import argparse
import datetime
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.goal import Figure, Goal, all_goals

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_MARK = "<!-- written by `make reliability` -->\n"
_HEAD = "| goal | bar | figure | seconds | date | verdict |\n|---|---|---|---|---|---|\n"


@dataclass(frozen=True, slots=True)
class Line:
    """One goal, measured."""

    goal: Goal
    figure: Figure
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.figure.is_met is not self.goal.is_control

    @property
    def verdict(self) -> str:
        if self.goal.is_control:
            return "caught" if self.is_good else "NOT CAUGHT"
        return "met" if self.is_good else "NOT MET"

    def row(self) -> str:
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        texts = (self.goal.name, self.goal.bar, self.figure.text)
        cells = (*texts, f"{self.seconds:.0f}", today, self.verdict)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    """Measure the goals that are named, or all; 1 where one is not met.

    In full, each takes its line of the page as soon as it is measured.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in the size of seconds")
    parser.add_argument("names", nargs="*", help="G7 …; without any, all")
    given = parser.parse_args()
    goals = all_goals()
    if unknown := set(given.names) - {goal.name for goal in goals}:
        parser.error(
            f"no goal {', '.join(sorted(unknown))}; there are {', '.join(goal.name for goal in goals)}"
        )
    lines: list[Line] = []
    for goal in goals:
        if not given.names or goal.name in given.names:
            lines.append(_measured(goal, is_full=not given.quick))
            sys.stdout.write(f"{lines[-1].row()}\n")
            sys.stdout.flush()
            if not given.quick:
                _write(lines[-1], goals)
    bad = [line.goal.name for line in lines if not line.is_good]
    sys.stdout.write(
        f"{len(lines) - len(bad)} of {len(lines)} good{': not ' + ', '.join(bad) if bad else ''}\n"
    )
    return 1 if bad else 0


def _measured(goal: Goal, *, is_full: bool) -> Line:
    begin = time.monotonic()
    try:
        figure = goal.measure(is_full)
    except Exception as error:  # noqa: BLE001 - a goal that breaks is one that is not met; the others are measured
        figure = Figure(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", is_met=False)
    return Line(goal, figure, time.monotonic() - begin)


def _write(line: Line, goals: list[Goal]) -> None:
    """Put a line into the table below the page's own words, in the place of the one from before."""
    words, _, table = PAGE.read_text(encoding="utf-8").partition(_MARK)
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in table.splitlines() if row.startswith("| ")}
    rows[line.goal.name] = line.row()
    machine = f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    known = "".join(f"{rows[goal.name]}\n" for goal in goals if goal.name in rows)
    PAGE.write_text(f"{words}{_MARK}\n{machine}.\n\n{_HEAD}{known}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
