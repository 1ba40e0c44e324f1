"""Outermost of WebSockets: an id, a line in the log, and refusals that a browser can see. Pure ASGI."""

import contextlib
import json
import logging
from time import monotonic
from typing import cast
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.deps import LifespanState
from server.keys.offered import SUBPROTOCOL
from server.live.closing import close_code
from server.log.request import FACTS, ID_HEADER, REQUEST_ID, Facts, begin
from server.log.secrets import redacted
from server.problems import problem_of

log = logging.getLogger(__name__)

_LET_IN = 101
_START, _BODY = "websocket.http.response.start", "websocket.http.response.body"
_LONGEST_PATH = 200


class SocketEnvelope:
    """Passes on what is no WebSocket.

    What is refused before it is accepted has an HTTP status. A page sees none of it: one that offers our
    subprotocol is accepted, told the error in a message, and closed with a code.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        facts = begin(Headers(scope=scope).get(ID_HEADER, ""), scope["state"].setdefault(FACTS, {}))
        scope["path"] = scope["path"].rstrip("/") or "/"
        sending = _Sending(send, facts, is_page=SUBPROTOCOL in scope["subprotocols"])
        since, failure = monotonic(), None
        try:
            await self._app(scope, receive, sending.send)
        except Exception as error:  # noqa: BLE001 - the process edge: a failed session must not end others
            failure = error
            await sending.fail(error)
        finally:
            _record(scope, facts, sending.status, monotonic() - since, failure)


class _Sending:
    """What is sent to one client; `status` is 101 where it was let in, 0 where nothing was sent."""

    def __init__(self, send: Send, facts: Facts, *, is_page: bool) -> None:
        self._send = send
        self._id = str(facts[REQUEST_ID])
        self._is_page = is_page
        self.status = 0

    async def send(self, message: Message) -> None:
        kind: str = message["type"]
        if kind in ("websocket.accept", _START):
            self.status = message.get("status", _LET_IN)
            message.setdefault("headers", [])
            MutableHeaders(scope=message)[ID_HEADER] = self._id
        if kind == _BODY and self._is_page:
            await self._refuse(message["body"])
        elif kind != _START or not self._is_page:
            await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Nobody expected that."""
        problem = problem_of(error)
        if self.status != _LET_IN:
            await self.send({"type": _START, "status": problem.status_code, "headers": []})
            await self.send({"type": _BODY, "body": json.dumps(problem.body()).encode()})
            return
        with contextlib.suppress(Exception):  # it may be closed already
            await self._send({"type": "websocket.close", "code": close_code(problem.status_code)})

    async def _refuse(self, body: bytes) -> None:
        """In the place of an answer, which no page is shown."""
        await self._send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL, "headers": []})
        said = {"type": "error", **json.loads(body)["error"]}
        await self._send({"type": "websocket.send", "text": json.dumps(said)})
        await self._send({"type": "websocket.close", "code": close_code(self.status)})


def _record(scope: Scope, facts: Facts, status: int, seconds: float, failure: Exception | None) -> None:
    """Count what was refused, and write the line."""
    services = cast(LifespanState, scope["state"])["services"]
    if status != _LET_IN:
        services.metrics.rejected(str(facts.get("code")))
    client = scope.get("client")
    facts |= {
        "path": quote(redacted(scope["path"]))[:_LONGEST_PATH],
        "status": status,
        "seconds": seconds,
        "client": client[0] if client else None,
        "key_name": scope["state"].get("key_name"),
    }
    level = logging.ERROR if failure is not None else logging.INFO
    log.log(level, "live session", extra={"facts": facts}, exc_info=failure)
