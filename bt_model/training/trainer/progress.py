"""How far a long piece of work is: a bar on a terminal, lines in a log file."""

import math
import time
from collections.abc import Callable
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 30.0  # between two lines of progress where there is no terminal


class StepProgress:
    """How far a run is, on standard error: a bar on a terminal, elsewhere plain lines at a bounded rate.

    The first line comes with the first step, the last with the last one, and between them one in half a
    minute at most.
    """

    def __init__(
        self,
        name: str,
        total: int,
        done: int = 0,
        *,
        is_shown: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._total, self._start, self._clock = name, total, done, clock
        self._console = console or Console(stderr=True)
        self._has_lines = is_shown and not self._console.is_terminal
        self._begin, self._said, self._done = clock(), -math.inf, done
        self._bar = Progress(
            TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
            console=self._console, disable=self._has_lines or not is_shown,
        )  # fmt: skip
        self._task = self._bar.add_task(name, total=total, completed=done, note="")

    def __enter__(self) -> "StepProgress":
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def update(self, done: int, note: str = "", details: str = "") -> None:
        """So many of all are done; `note` stands beside the number, `details` behind it in lines alone."""
        self._bar.update(self._task, completed=done, note=note)
        now = self._clock()
        is_new, self._done = done != self._done, done
        if self._has_lines and is_new and (now - self._said >= _LINE_SECONDS or done == self._total):
            left = timedelta(seconds=round((now - self._begin) / (done - self._start) * (self._total - done)))
            parts = ", ".join(part for part in (note, details, f"{left} left") if part)
            line = f"{self._name} {done}/{self._total} {parts}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            self._said = now
