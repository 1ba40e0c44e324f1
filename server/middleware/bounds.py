"""Bounds on the body of every request. Pure ASGI."""

import asyncio
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.problems import Problem

_LARGE_BYTES = 64 * 1024  # what takes milliseconds to parse, for which the event loop stands still


class BodyBounds:
    """Refuses bodies longer than their route allows, declared or not, and bodies that stall.

    A path that ends in a slash stands for all that lie right below it.

    Of large ones one piece goes on in each round of the event loop, however many arrive at once.
    """

    def __init__(
        self, app: ASGIApp, default_bytes: int, bytes_by_path: Mapping[str, int], idle_seconds: float
    ) -> None:
        self._app = app
        self._default_bytes = default_bytes
        self._bytes_by_path = bytes_by_path
        self._idle_seconds = idle_seconds
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        max_bytes = self._bytes_by_path.get(
            path, self._bytes_by_path.get(path[: path.rfind("/") + 1], self._default_bytes)
        )
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > max_bytes:
            await _too_large(declared, max_bytes).response()(scope, receive, send)
            return
        body = _BoundedBody(receive, max_bytes, self._idle_seconds, self._turn)
        await self._app(scope, body.receive, send)


class _BoundedBody:
    """Counts a body as it is read."""

    def __init__(self, receive: Receive, max_bytes: int, idle_seconds: float, turn: asyncio.Lock) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._idle_seconds = idle_seconds
        self._turn = turn
        self._num_bytes = 0
        self._is_complete = False

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._idle_seconds)
        except TimeoutError as error:
            raise _stalled(self._idle_seconds) from error
        self._is_complete = not message.get("more_body", False)
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > self._max_bytes:
            raise _too_large("streamed", self._max_bytes)
        if self._num_bytes > _LARGE_BYTES:
            async with self._turn:
                await asyncio.sleep(0)  # what else is ready goes first
        return message


def _too_large(declared: str, max_bytes: int) -> Problem:
    text = f"the body is too large ({declared[:20]} bytes); at most {max_bytes} bytes are allowed"
    return Problem(413, text, code="body_too_large", param="body", headers={"connection": "close"})


def _stalled(seconds: float) -> HTTPException:
    text = f"no byte of the body came for {seconds:g} seconds"
    return Problem(408, text, code="body_timeout", param="body", headers={"connection": "close"})
