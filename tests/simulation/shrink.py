"""The shortest plan that still breaks the same invariant: what is left out changes nothing about the rest."""

from collections.abc import Callable

from tests.simulation.plan import Event, Plan

_MAX_RUNS = 400


def shortest(plan: Plan, breaks: Callable[[Plan], bool]) -> Plan:
    """Delta debugging over the events of a plan, and over its lives.

    Args:
        plan: breaks an invariant.
        breaks: whether another plan breaks it, too.
    """
    runs = 0

    def still(candidate: Plan) -> bool:
        nonlocal runs
        runs += 1
        return runs <= _MAX_RUNS and breaks(candidate)

    for index in reversed(range(len(plan.lives))):
        fewer = plan.without_life(index)
        if len(plan.lives) > 1 and still(fewer):
            plan = fewer
    kept = plan.events
    size = max(len(kept) // 2, 1)
    while kept and runs < _MAX_RUNS:
        smaller = _without_some(plan, kept, size, still)
        if len(smaller) == len(kept):
            if size == 1:
                break
            size = max(size // 2, 1)
        kept = smaller
        size = min(size, max(len(kept) // 2, 1))
    return plan.only(kept)


def _without_some(plan: Plan, kept: list[Event], size: int, still: Callable[[Plan], bool]) -> list[Event]:
    """The events without every slice of so many that is not needed."""
    first = 0
    while first < len(kept):
        fewer = kept[:first] + kept[first + size :]
        if still(plan.only(fewer)):
            kept = fewer
        else:
            first += size
    return kept
