"""What is said over one WebSocket, with an end to every wait for its client."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from server.bodies.live import LiveMessage, error_message, message_of
from server.problems import Problem

ABORT = "abort"
"""Where a function stands in the state of a scope that ends its connection at once."""

_GONE = 1006


class Talk:
    """Messages of a client that was accepted. Every method raises WebSocketDisconnect once it has left."""

    def __init__(self, socket: WebSocket, stall_seconds: float) -> None:
        self._socket = socket
        self._stall_seconds = stall_seconds

    async def hear(self) -> LiveMessage | None:
        """The next message; None for one that is none, of which the client is told."""
        received = await self._socket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code", _GONE))
        try:
            return message_of(received.get("text") or "")
        except Problem as problem:
            await self.say(error_message(problem))
            return None

    async def say(self, message: dict[str, Any]) -> None:
        """Send it; a client that does not read is left."""
        if self._socket.application_state is not WebSocketState.CONNECTED:
            raise WebSocketDisconnect(_GONE)
        try:
            async with asyncio.timeout(self._stall_seconds):
                await self._socket.send_text(json.dumps(message))
        except TimeoutError:
            cast(Callable[[], None], self._socket.scope["state"][ABORT])()
            raise WebSocketDisconnect(_GONE) from None

    async def close(self, code: int) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            await self._socket.close(code)
