"""Outermost: for every request an id, the HTTP metrics, a line in the log and a last answer. Pure ASGI."""

import asyncio
import contextlib
import logging
from time import monotonic
from typing import cast
from uuid import uuid4

from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.deps import LifespanState
from server.middleware.keys import PAGES
from server.middleware.log import log_request
from server.problems import METHODS, problem_of

REQUEST_ID = "x-request-id"

log = logging.getLogger(__name__)

# what a page loads comes from this server alone; both pages have scripts and styles in their HTML
_PAGE_POLICY = "default-src 'self' 'unsafe-inline' data: blob:"
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 4 * 1024 * 1024


class Envelope:
    """Outermost: a request id on every response, the HTTP metrics, and a 500 for unexpected errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid4().hex
        # one resource, one spelling: what is looked up by the path (bounds, keys, routes) sees no last slash
        scope["path"] = scope["path"].rstrip("/") or "/"
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        since = monotonic()
        body = _WatchedBody(receive, Headers(scope=scope))

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if scope["path"] in PAGES:
                    headers["content-security-policy"] = _PAGE_POLICY
            elif not message.get("more_body") and not body.is_complete:
                await send({**message, "more_body": True})
                await body.drain()
                message = {"type": "http.response.body"}
            await send(message)

        try:
            await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            log.info("the client of request %s left", request_id)
        except Exception as error:  # the process edge: a failed request must not end others
            log.exception("request %s failed", request_id)
            if not status:
                await problem_of(error).response()(scope, receive, send_with_id)
        finally:
            seconds = monotonic() - since
            _count(scope, status, seconds)
            log_request(scope, request_id, status, seconds)


class _WatchedBody:
    """Tracks whether a body was read to its end.

    Closing a connection with unread bytes resets it, and the client may lose the error response; so a part of
    an unread body is read and dropped after the response.
    """

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive = receive
        self.is_complete = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_complete = self.is_complete or not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        num_bytes = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while not self.is_complete and num_bytes < _LINGER_BYTES:
                    num_bytes += len((await self.receive()).get("body", b""))


def _count(scope: Scope, status: int, seconds: float) -> None:
    route = scope.get("route")
    handler = route.path if isinstance(route, APIRoute) else "unmatched"
    method = scope["method"] if scope["method"] in METHODS else "other"
    shown = f"{status // 100}xx" if status else "none"
    metrics = cast(LifespanState, scope["state"])["services"].metrics
    metrics.requested(handler, method, shown, seconds)
