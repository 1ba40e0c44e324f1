"""Large bodies at once: they take turns."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from server.middleware.bounds import BodyBounds, BodyPace
from server.middleware.costs import RequestCost, RequestCosts
from server.problems import Problem

SCOPE: Scope = {"type": "http", "path": "/", "headers": []}


async def nothing(_message: Message) -> None:
    """Where no answer is sent."""


def body_of(num_bytes: int) -> Callable[[], Awaitable[Message]]:
    """Two pieces of so many bytes."""
    num_pieces = 2

    async def receive() -> Message:
        nonlocal num_pieces
        num_pieces -= 1
        return {"type": "http.request", "body": b"x" * num_bytes, "more_body": num_pieces > 0}

    return receive


@pytest.mark.parametrize(("num_bytes", "most"), [(100_000, 1), (1000, 12)])
async def test_one_piece_of_large_bodies_is_read_in_a_round_of_the_event_loop(
    num_bytes: int, most: int
) -> None:
    rounds = [0]

    async def parse(_scope: Scope, receive: Receive, _send: Send) -> None:
        for _ in range(2):
            await receive()
            rounds[-1] += 1

    async def tick() -> None:
        while True:
            rounds.append(0)
            await asyncio.sleep(0)

    bounds = BodyBounds(parse, RequestCosts(RequestCost(1_000_000), {}), BodyPace(5, 1))
    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(bounds(SCOPE, body_of(num_bytes), nothing) for _ in range(6)))
    ticking.cancel()
    assert max(rounds) == most
    assert sum(rounds) == 12


async def test_what_came_fast_saves_no_hours_for_drops() -> None:
    came = [b"x" * 1_000_000]

    async def drip() -> Message:
        await asyncio.sleep(0 if came else 0.02)
        return {"type": "http.request", "body": came.pop() if came else b".", "more_body": True}

    async def read(_scope: Scope, receive: Receive, _send: Send) -> None:
        while True:
            await receive()

    bounds = BodyBounds(read, RequestCosts(RequestCost(10_000_000), {}), BodyPace(0.1, 1000))
    async with asyncio.timeout(5):
        with pytest.raises(Problem, match=r"too slowly.*save 0\.4") as caught:
            await bounds(SCOPE, drip, nothing)
    assert caught.value.status_code == 408


@pytest.mark.parametrize(
    ("path", "max_bytes"), [("/a", 1), ("/a/b", 2), ("/a/b/c", 0), ("/c", 0), ("/a/", 2)]
)
def test_a_path_has_its_own_bounds_or_those_of_all_below(path: str, max_bytes: int) -> None:
    assert (
        RequestCosts(RequestCost(0), {"/a": RequestCost(1), "/a/": RequestCost(2)}).of(path).max_bytes
        == max_bytes
    )
