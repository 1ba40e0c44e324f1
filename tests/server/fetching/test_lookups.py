"""Names of servers that are silent: they keep nobody else's from being found, and are bounded."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest
import uvloop

from server.fetching.lookups import Lookups
from server.problems import BusyError, RateLimitError, problem_of

PUBLIC = "93.184.216.34"


class Names:
    """A resolver that finds every name but those of `tarpit`, for which it waits."""

    def __init__(self) -> None:
        self.is_over = threading.Event()

    def __call__(self, host: str) -> Sequence[str]:
        if host.endswith(".tarpit"):
            assert self.is_over.wait(20)
        if host.endswith(".gone"):
            raise OSError("no such name")
        return [PUBLIC]


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.is_over.set()


async def given_up(looking: Lookups, tenant: str, count: int) -> None:
    """So many names that are asked for, and not waited for."""
    for number in range(count):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await looking(f"{number}.tarpit", tenant)


def test_names_that_nobody_answers_keep_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda host, *_, **__: [(*[0] * 4, (a, 0)) for a in names(host)]
    )

    async def ask() -> Sequence[str]:
        looking = Lookups()
        await given_up(looking, "mine", 40)
        return await asyncio.wait_for(looking("good", "mine"), 5)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(ask()) == [PUBLIC]
    finally:
        names.is_over.set()


async def test_a_name_that_is_not_found_is_told(names: Names) -> None:
    with pytest.raises(OSError, match="no such name"):
        await Lookups(look_up=names)("a.gone", "mine")


async def test_a_key_may_fill_its_share_and_no_more(names: Names) -> None:
    looking = Lookups(2, names)
    await given_up(looking, "mine", 56)
    with pytest.raises(RateLimitError, match="this key may have 56 names") as caught:
        await looking("good", "mine")
    assert problem_of(caught.value).status_code == 429
    await given_up(looking, "other", 7)
    assert await looking("good", "other") == [PUBLIC]
    await given_up(looking, "other", 1)
    with pytest.raises(BusyError, match="64 names of hosts are being looked up") as busy:
        await looking("good", "other")
    problem = problem_of(busy.value)
    assert (problem.status_code, problem.headers) == (503, {"retry-after": "5"})


async def test_a_name_is_looked_up_until_its_thread_ends(names: Names) -> None:
    looking = Lookups(look_up=names)
    await given_up(looking, "mine", 64)
    with pytest.raises(BusyError):
        await looking("good", "mine")
    names.is_over.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await looking("good", "mine") == [PUBLIC]
                break
            except BusyError:
                await asyncio.sleep(0.01)


def test_a_lookup_that_outlasts_the_server_ends_quietly(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = list[threading.ExceptHookArgs]()
    monkeypatch.setattr(threading, "excepthook", failures.append)
    asyncio.run(given_up(Lookups(look_up=names), "mine", 1))
    names.is_over.set()
    for thread in threading.enumerate():
        if thread.name == "lookup":
            assert thread.daemon
            thread.join(5)
    assert failures == []
