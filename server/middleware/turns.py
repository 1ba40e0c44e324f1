"""Turns of those who would keep the event loop together."""

import asyncio


class Turns:
    """Lets one go on in each round of the event loop, however many wait: what else is ready goes first."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        async with self._turn:
            await asyncio.sleep(0)
