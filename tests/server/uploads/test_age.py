"""Clocks that are set, while a server runs and while none does."""

from pathlib import Path

import pytest

from server.uploads.age import AgeClock
from server.uploads.disk import Clock
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.server.uploads.test_store import added

DAY, YEARS = 86_400.0, 10 * 365 * 86_400.0
START = 1_800_000_000.0


class Times:
    """What the clock on the wall says, and what really passes."""

    def __init__(self) -> None:
        self.wall, self.steady = START, 500.0
        self.clock = Clock(lambda: self.wall, lambda: self.steady)

    def passed(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.mark.parametrize("step", [YEARS, -YEARS, 3600.0, -1.0])
async def test_whoever_sets_the_clock_ends_no_upload_and_keeps_none(tmp_path: Path, step: float) -> None:
    times = Times()
    store = await VideoStore.open(tmp_path, StoreLimits(7 * DAY), clock=times.clock)
    video = await added(store)
    times.wall += step
    assert await store.delete_expired() == []
    shown = await store.get("public", video.id)
    assert (shown.created_at, shown.expires_at) == (START, START + 7 * DAY + step)
    times.passed(7 * DAY + 1)
    assert [each.id for each in await store.delete_expired()] == [video.id]
    await store.close()


@pytest.mark.parametrize("step", [YEARS, -YEARS, DAY + 1, -1.0])
async def test_a_clock_that_was_set_while_no_server_ran_ends_no_upload(tmp_path: Path, step: float) -> None:
    times = Times()
    for number in range(3):
        store = await VideoStore.open(tmp_path, StoreLimits(DAY), clock=times.clock)
        await added(store, content=b"%d" % number)
        assert await store.delete_expired() == []
        times.passed(60)
        await store.close()
        times.wall, times.steady = times.wall + step, 7.0
    store = await VideoStore.open(tmp_path, StoreLimits(DAY), clock=times.clock)
    assert len(await store.page("public", None, 10, "asc")) == 3
    await store.close()


def test_a_pause_counts_up_to_a_day() -> None:
    times = Times()
    for pause, counted in ((3600.0, 3600.0), (DAY, DAY), (DAY + 1, 0.0), (-5.0, 0.0)):
        age = AgeClock(times.clock, (1000.0, times.wall - pause))
        assert age.now() == 1000.0 + counted
