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
    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * num_bytes, "more_body": False}

    return receive


@pytest.mark.parametrize(("num_bytes", "most"), [(100_000, 1), (1000, 6)])
async def test_only_one_large_body_is_parsed_in_a_round_of_the_event_loop(num_bytes: int, most: int) -> None:
    rounds = [0]

    async def parse(_scope: Scope, receive: Receive, _send: Send) -> None:
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
    assert sum(rounds) == 6
