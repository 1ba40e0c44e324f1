"""Bounds on the body of every request: its length, the longest pause in it, and its pace. Pure ASGI."""

import asyncio
from dataclasses import dataclass
from time import monotonic

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.middleware.costs import RequestCosts
from server.middleware.turns import Turns
from server.problems import Problem

_LARGE_BYTES = 64 * 1024  # what takes milliseconds to parse, for which the event loop stands still
_MOST_SAVED = 4  # times the longest pause


@dataclass(frozen=True, slots=True)
class BodyPace:
    """A body has `idle_seconds` in all, and a second more for every `rate` bytes; no pause is longer.

    A file that takes hours on a slow line still comes through. What came fast saves time for what follows,
    but no more than some pauses: then drops would hold a place for an hour.
    """

    idle_seconds: float
    rate: int

    @property
    def most_seconds(self) -> float:
        return _MOST_SAVED * self.idle_seconds


class BodyBounds:
    """Refuses bodies longer than their route allows, declared or not, and bodies that stall or drip.

    Of large ones one piece goes on in each round of the event loop, however many arrive at once.
    """

    def __init__(self, app: ASGIApp, costs: RequestCosts, pace: BodyPace) -> None:
        self._app = app
        self._costs = costs
        self._pace = pace
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._costs.of(scope["path"]).max_bytes
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > max_bytes:
            await _too_large(declared, max_bytes).response()(scope, receive, send)
            return
        body = _BoundedBody(receive, max_bytes, self._pace, self._turns)
        await self._app(scope, body.receive, send)


class _BoundedBody:
    """Counts a body as it is read.

    Only time in which the application waits for it counts, so that no client pays for a server that is busy.
    """

    def __init__(self, receive: Receive, max_bytes: int, pace: BodyPace, turns: Turns) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._pace = pace
        self._turns = turns
        self._seconds = pace.idle_seconds  # that are left
        self._num_bytes = 0
        self._is_complete = False

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        since = monotonic()
        try:
            async with asyncio.timeout(min(self._seconds, self._pace.idle_seconds)):
                message = await self._receive()
        except TimeoutError as error:
            raise self._too_late() from error
        self._is_complete = not message.get("more_body", False)
        num_bytes = len(message.get("body", b""))
        saved = self._seconds - (monotonic() - since) + num_bytes / self._pace.rate
        self._seconds = min(saved, self._pace.most_seconds)
        self._num_bytes += num_bytes
        if self._num_bytes > self._max_bytes:
            raise _too_large("streamed", self._max_bytes)
        if self._num_bytes > _LARGE_BYTES:
            await self._turns.wait()
        return message

    def _too_late(self) -> Problem:
        pace = self._pace
        if self._seconds >= pace.idle_seconds:
            text = f"no byte of the body came for {pace.idle_seconds:g} seconds"
        else:
            text = (
                f"the body came too slowly: it has {pace.idle_seconds:g} s, and one more for every "
                f"{pace.rate} bytes, of which it can save {pace.most_seconds:g}"
            )
        return Problem(408, text, code="body_timeout", param="body", headers={"connection": "close"})


def _too_large(declared: str, max_bytes: int) -> Problem:
    text = f"the body is too large ({declared[:20]} bytes); at most {max_bytes} bytes are allowed"
    return Problem(413, text, code="body_too_large", param="body", headers={"connection": "close"})
