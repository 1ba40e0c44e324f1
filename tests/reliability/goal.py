"""What a goal is: a bar, and how it is measured in its full size and in one for every commit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, in words, and whether that meets the bar."""

    text: str
    is_met: bool


class NotHereError(Exception):
    """What this machine lacks to measure a goal."""


Measure = Callable[[bool], Figure]
"""Measures a goal; given True in its full size, else in seconds. May raise AssertionError: not met."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table. A control has a fault planted into what it measures, and must not be met.

    Goals are called G1 to G36; what is promised beside them, and controls, have a name of their own.
    """

    name: str
    bar: str
    measure: Measure
    is_control: bool = False
    is_long: bool = False
    """Its quick size takes several seconds too: it is left to `make reliability`."""


def all_goals() -> list[Goal]:
    """Those of every module here that has GOALS, in order of their numbers, then of their names."""

    def order(goal: Goal) -> tuple[int, str]:
        number = goal.name.removeprefix("G")
        return (int(number), "") if number.isdecimal() else (1000, goal.name)

    return sorted(_found(), key=order)


def _found() -> Iterator[Goal]:
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith(("_", "test_")):
            yield from getattr(import_module(f"{__package__}.{path.stem}"), "GOALS", ())
