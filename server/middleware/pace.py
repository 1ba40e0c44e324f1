"""The least pace of a body. Pure ASGI."""

import asyncio
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.problems import Problem


class BodyPace:
    """Gives up bodies that drip: one has `seconds` in all, and a second more for every `rate` bytes.

    Only time in which the application waits for it counts, so that no client pays for a server that is busy.
    A file that takes hours on a slow line still comes through.
    """

    def __init__(self, app: ASGIApp, seconds: float, rate: int) -> None:
        self._app = app
        self._seconds = seconds
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = self._seconds
        is_complete = scope["type"] != "http"

        async def receive_in_time() -> Message:
            nonlocal left, is_complete
            if is_complete:
                return await receive()
            since = monotonic()
            try:
                async with asyncio.timeout(left):
                    message = await receive()
            except TimeoutError as error:
                raise self._too_slow() from error
            is_complete = not message.get("more_body", False)
            left += len(message.get("body", b"")) / self._rate - (monotonic() - since)
            return message

        await self._app(scope, receive_in_time, send)

    def _too_slow(self) -> Problem:
        text = (
            f"the body came too slowly: it has {self._seconds:g} s, and one more for every {self._rate} bytes"
        )
        return Problem(408, text, code="body_timeout", param="body", headers={"connection": "close"})
