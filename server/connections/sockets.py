"""A WebSocket on one connection, as uvicorn speaks it, with bounds on what a client may make of it."""

import logging
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from server.live.talk import ABORT

_MOST_FRAGMENTS = 1024  # of a message
_log = logging.getLogger("websockets.server")
_log.setLevel(logging.WARNING)  # its lines show queries; there is one of ours for every session


class BoundedSocket(WebSocketsSansIOProtocol):
    """Ends what is no handshake, and messages in too many pieces."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.logger = self.conn.logger = _log

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated:  # the first data are whole headers, which were none of a WebSocket
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope.setdefault("state", {})[ABORT] = self.transport.abort

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":  # which uvicorn takes for no end of a handshake
            self.handshake_complete = True

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) == _MOST_FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "a message in too many pieces")
            self.handle_parser_exception()
            return
        super().handle_cont(event)
