"""`make simulate`: runs of the simulation, by seed; a seed that breaks an invariant is shrunk and shown.

`make simulate-faults`: plants mistakes in the product one by one, and tells which are found.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.simulation.faults import FAULTS, PlantedFault, plant

_CPU_SECONDS = 60.0
"""For each planted fault at most; most take a second or two, all together less than ten minutes."""

_GOAL = 29 / 30


@dataclass(frozen=True, slots=True)
class _Outcome:
    num_requests: int
    seconds: float
    text: str  # what was found; empty for nothing


def main() -> int:
    """1 where an invariant is broken, or too few of the planted faults are found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="100", help="how many, from 1 on; or FIRST-LAST; or one: =SEED")
    parser.add_argument("--seconds", type=float, help="of CPU time at most")
    parser.add_argument("--faults", nargs="*", metavar="NAME", help="plant these faults of faults.py, or all")
    parser.add_argument("--plant", metavar="NAME", help="plant one fault, then run")
    parser.add_argument("--brief", action="store_true", help="do not shrink")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of strings are in the same order every time
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], _environment())
    if given.faults is not None:
        return _try_faults([fault for fault in FAULTS if fault.name in given.faults] or list(FAULTS))
    if given.plant:
        plant(given.plant)
    first, last = _range(given.seeds)
    outcome = _run(first, last, given.seconds or float("inf"), is_brief=given.brief)
    rate = outcome.num_requests / outcome.seconds * 60
    say(f"{outcome.num_requests} requests in {outcome.seconds:.1f} s of CPU time: {rate:,.0f} a minute")
    return 1 if outcome.text else 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0"}


def _range(given: str) -> tuple[int, int]:
    if given.startswith("="):
        return int(given[1:]), int(given[1:])
    first, _, last = given.rpartition("-")
    return int(first or 1), int(last)


def _run(first: int, last: int, seconds: float, *, is_brief: bool) -> _Outcome:
    from tests.simulation.plan import plan_of  # noqa: PLC0415 - after a fault was planted
    from tests.simulation.world import run  # noqa: PLC0415

    num_requests, begin = 0, time.process_time()
    for seed in range(first, last + 1):
        world = run(plan_of(seed))
        num_requests += world.ledger.num_requests
        if world.finding is not None:
            text = f"{world.finding.invariant}: {world.finding.text}"
            say(f"seed {seed}: {text}")
            spent = time.process_time() - begin
            if not is_brief:
                _show_shortest(seed, world.finding.invariant)
            return _Outcome(num_requests, spent, text)
        if time.process_time() - begin > seconds:
            say(f"seeds {first} to {seed}")
            break
    return _Outcome(num_requests, time.process_time() - begin, "")


def _show_shortest(seed: int, invariant: str) -> None:
    from tests.simulation.plan import Plan, plan_of  # noqa: PLC0415
    from tests.simulation.shrink import shortest  # noqa: PLC0415
    from tests.simulation.world import run  # noqa: PLC0415

    def breaks(plan: Plan) -> bool:
        finding = run(plan).finding
        return finding is not None and finding.invariant == invariant

    plan = shortest(plan_of(seed), breaks)
    say(f"\nThe shortest plan, of {len(plan.events)} events:\n{plan.text()}")
    say(f"\nWhat happens then:\n{run(plan).trace.text()}\n")
    say(f"make simulate SEEDS=={seed} shows it again\n")


def _is_clean(shown: str) -> bool:
    """Whether the seed that is shown breaks nothing without a planted fault."""
    from tests.simulation.plan import plan_of  # noqa: PLC0415
    from tests.simulation.world import run  # noqa: PLC0415

    return run(plan_of(int(shown.split()[1].removesuffix(":")))).finding is None


def _try_faults(faults: list[PlantedFault]) -> int:
    """Every fault in a process of its own, until it is found or its time is over."""
    num_found, total = 0, 0.0
    for fault in faults:
        command = [sys.executable, "-m", "tests.simulation", "--plant", fault.name, "--seeds", "1000000"]
        before = os.times()
        done = subprocess.run(
            [*command, "--seconds", str(_CPU_SECONDS), "--brief"],
            env=_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        after = os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        total += seconds
        is_found = done.returncode == 1 and done.stdout.startswith("seed ") and _is_clean(done.stdout)
        num_found += is_found
        line = (
            done.stdout.splitlines()[0] if is_found else f"NOT FOUND {done.stdout[:80]} {done.stderr[-2000:]}"
        )
        say(f"{fault.name} | {seconds:.1f} s | {line}")
    say(f"\n{num_found} of {len(faults)} found in {total / 60:.1f} CPU minutes")
    return 0 if num_found >= _GOAL * len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
