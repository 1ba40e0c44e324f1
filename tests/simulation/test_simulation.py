"""The simulation itself: it is replayed from its seed, finds a mistake, and shrinks what led to it."""

import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.simulation.disk import SimulatedDisk
from tests.simulation.draws import Draws
from tests.simulation.faults import FAULTS
from tests.simulation.plan import Plan, plan_of
from tests.simulation.shrink import shortest
from tests.simulation.virtual import virtual
from tests.simulation.world import run

SIZE = 0.1


@pytest.mark.parametrize("seed", range(1, 4))
def test_no_invariant_is_broken(seed: int) -> None:
    world = run(plan_of(seed, SIZE))
    assert world.finding is None, world.trace.text()


def test_the_same_seed_gives_the_same_run() -> None:
    first, second, other = (run(plan_of(seed, SIZE)).trace.digest() for seed in (7, 7, 8))
    assert first == second != other


def test_threads_beside_a_run_have_the_time_and_the_randomness_of_this_machine() -> None:
    with virtual(lambda: 1e12, lambda: 1e12, Draws(1)), ThreadPoolExecutor(1) as pool:
        assert time.monotonic() == time.time() == 1e12
        assert pool.submit(time.monotonic).result() < 1e12
        assert pool.submit(secrets.token_bytes, 8).result() != Draws(1).token(8)


def test_every_fault_can_be_planted() -> None:
    for fault in FAULTS:
        compile(fault.planted(), fault.file, "exec")


def test_a_lost_upload_is_found_and_what_led_to_it_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedDisk, "sync_folder", lambda *_: None)

    def breaks(plan: Plan) -> bool:
        finding = run(plan).finding
        return finding is not None and finding.invariant == "an acknowledged upload is lost"

    seed = next(seed for seed in range(1, 30) if breaks(plan_of(seed, SIZE)))
    assert len(shortest(plan_of(seed, SIZE), breaks).events) <= 3
