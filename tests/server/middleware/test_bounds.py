"""Large bodies at once: they take turns."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from server.middleware.bounds import BodyBounds

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


@pytest.mark.parametrize(("num_bytes", "most"), [(100_000, 1), (1000, 6)])
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

    bounds = BodyBounds(parse, 1_000_000, {}, idle_seconds=5)
    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(bounds(SCOPE, body_of(num_bytes), nothing) for _ in range(6)))
    ticking.cancel()
    assert max(rounds) == most
    assert sum(rounds) == 12
