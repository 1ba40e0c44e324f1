"""The application as it is behind its keys, for requests that the server makes itself. Pure ASGI."""

import asyncio
import json
import logging

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.batches.runner import LineReply
from server.deps import Services
from server.log.request import FACTS, REQUEST_ID, begin
from server.problems import problem_of

log = logging.getLogger(__name__)


class InsideCalls:
    """Makes requests for a tenant, through door, routes and all; knows the application once that is built."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    def take(self, app: ASGIApp) -> None:
        """The application from here on inwards."""
        self._app = app

    async def post(self, path: str, body: bytes, tenant: str, services: Services) -> LineReply:
        """POST a JSON body; what goes wrong is a reply, too."""
        assert self._app is not None
        facts = begin()
        length = str(len(body)).encode()
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"content-length", length)],
            "client": None,
            "server": None,
            "state": {"services": services, "tenant": tenant, "key_name": None, FACTS: facts},
        }
        exchange = _Exchange(body)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            log.exception("a request of a batch failed")
            problem = problem_of(error)
            return LineReply(problem.status_code, str(facts[REQUEST_ID]), problem.body())
        return exchange.reply(str(facts[REQUEST_ID]))


class Inside:
    """Hands the application behind it over; passes everything on."""

    def __init__(self, app: ASGIApp, calls: InsideCalls) -> None:
        self._app = app
        calls.take(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Exchange:
    """One request's messages; its client never leaves."""

    def __init__(self, body: bytes) -> None:
        self._messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._start: Message = {}
        self._body = bytearray()

    async def receive(self) -> Message:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._body += message.get("body", b"")

    def reply(self, request_id: str) -> LineReply:
        headers = Headers(raw=self._start["headers"])
        seconds = headers.get("retry-after") if headers.get("x-should-retry") != "false" else None
        retry_seconds = float(seconds) if seconds else None
        return LineReply(self._start["status"], request_id, json.loads(self._body), retry_seconds)
