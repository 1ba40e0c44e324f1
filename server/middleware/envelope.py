"""Outermost: for every request an id, the HTTP metrics, a line in the log and a last answer. Pure ASGI."""

import asyncio
import contextlib
import logging
import math
from http import HTTPStatus
from time import monotonic
from typing import cast
from urllib.parse import quote

from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.deps import LifespanState
from server.log.request import FACTS, ID_HEADER, REQUEST_ID, Facts, begin
from server.log.secrets import redacted
from server.middleware.gate import LIVE
from server.middleware.keys import PAGES
from server.problems import problem_of, status_on

log = logging.getLogger(__name__)

# what a page loads comes from this server alone; both pages have scripts and styles in their HTML
_PAGE_POLICY = "default-src 'self' 'unsafe-inline' data: blob:"
_PROBES = LIVE | {"/health/ready", "/metrics"}  # asked every few seconds
_LONGEST_PATH = 200
_LINGER_SECONDS = 1.0
_PAUSE_SECONDS = 0.25  # for a client that is sending to find its answer
_LINGER_BYTES = 4 * 1024 * 1024
_STRANGERS_BYTES = 64 * 1024  # of a longer body from who has no key nothing is read but what came by itself


class Envelope:
    """Outermost: each response's id and status, the HTTP metrics, and a 500 for unexpected errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        facts = begin(headers.get(ID_HEADER, ""), scope["state"].setdefault(FACTS, {}))
        # one resource, one spelling: what is looked up by the path (bounds, keys, routes) sees no last slash
        scope["path"] = scope["path"].rstrip("/") or "/"
        status, since = 0, monotonic()
        failure: Exception | None = None
        body = _WatchedBody(receive, headers)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"] = status_on(scope["path"], message["status"])
                sent = MutableHeaders(scope=message)
                if body.num_left > _LINGER_BYTES:  # nobody is to send what nobody reads
                    sent["connection"] = "close"
                sent[ID_HEADER] = str(facts[REQUEST_ID])
                if scope["path"] in PAGES:
                    sent["content-security-policy"] = _PAGE_POLICY
            elif not (message.get("more_body") or body.is_complete or facts.get("code") == "body_timeout"):
                await send({**message, "more_body": True})
                scope["state"].get("linger", lambda: None)()
                await body.drain(is_stranger="tenant" not in scope["state"])
                message = {"type": "http.response.body"}
            await send(message)

        try:
            await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            pass  # status 0 says so
        except Exception as error:  # noqa: BLE001 - the process edge: a failed request must not end others
            failure = error
            if not status:
                await problem_of(error).response()(scope, receive, send_with_id)
        finally:
            status = cast(int, facts.get("status", status))  # where the connection refused what came
            _record(scope, facts, status, monotonic() - since, failure)


class _WatchedBody:
    """Tracks whether a body was read to its end.

    Closing a connection with unread bytes resets it, and the client may lose the error response; so a part of
    an unread body is read and dropped after the response. curl, requests and httpx, which OpenAI's client is
    made of, find the response whatever the rest of the body; a bare http.client does not.
    """

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive = receive
        is_chunked = "transfer-encoding" in headers
        self.num_left = math.inf if is_chunked else int(headers.get("content-length", "0"))

    @property
    def is_complete(self) -> bool:
        return not self.num_left

    async def receive(self) -> Message:
        message = await self._receive()
        self.num_left -= min(len(message.get("body", b"")), self.num_left)
        if not message.get("more_body", False):
            self.num_left = 0
        return message

    async def drain(self, *, is_stranger: bool) -> None:
        num_bytes, most = 0, 0 if is_stranger and self.num_left > _STRANGERS_BYTES else _LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while not self.is_complete and num_bytes < most:
                    num_bytes += len((await self.receive()).get("body", b""))
        if not self.is_complete:
            await asyncio.sleep(_PAUSE_SECONDS)


def _record(scope: Scope, facts: Facts, status: int, seconds: float, failure: Exception | None) -> None:
    """Count a request, and write its line.

    Headers, and what may hold secrets or names of people, are left out; but where asked, not the query.
    """
    services = cast(LifespanState, scope["state"])["services"]
    route, method = scope.get("route"), scope["method"]
    asked = {method, "GET"} if method == "HEAD" else {method}
    template = route.path if isinstance(route, APIRoute) and asked & (route.methods or set()) else None
    services.metrics.requested(template or "", method, f"{status // 100}xx" if status else "none", seconds)
    if status >= HTTPStatus.BAD_REQUEST:
        services.metrics.rejected(str(facts.get("code")))
    client = scope.get("client")
    facts |= {
        "method": method,
        "path": quote(redacted(scope["path"]))[:_LONGEST_PATH],
        "route": template,
        "status": status,
        "seconds": seconds,
        "client": client[0] if client else None,
        "key_name": scope["state"].get("key_name"),
    }
    if services.settings.log_details:
        headers = Headers(scope=scope)
        facts |= {"query": scope["query_string"].decode("latin-1"), "user_agent": headers.get("user-agent")}
    log.log(_level(scope, status, failure), "request", extra={"facts": facts}, exc_info=failure)


def _level(scope: Scope, status: int, failure: Exception | None) -> int:
    if failure is not None:
        return logging.ERROR
    if scope["path"] in _PROBES and status == HTTPStatus.OK:
        return logging.DEBUG
    return logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
