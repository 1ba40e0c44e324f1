"""What every request passes before a route sees it: an id, the key, and bounds on its body. Pure ASGI."""

import asyncio
import contextlib
import hashlib
import hmac
import logging
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import cast
from uuid import uuid4

from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bt_model.errors import InvalidValueError
from server.deps import State
from server.engine.queue import PUBLIC
from server.problems import Problem, problem_of

OPEN_PATHS = frozenset({"/health/live", "/health/ready"})
REQUEST_ID = "x-request-id"

log = logging.getLogger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MIN_KEY_CHARACTERS = 8
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 4 * 1024 * 1024


def load_keys(path: Path) -> tuple[bytes, ...]:
    """Digests of the keys in a file, one key a line; lines that start with # are comments.

    Raises:
        InvalidValueError: a file that cannot be read, holds no key, or a key too short to be one.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"cannot read keys file {path}: {error}", param="api_keys_file") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or min(map(len, keys)) < _MIN_KEY_CHARACTERS:
        message = f"{path} needs keys of {_MIN_KEY_CHARACTERS} characters or more, one a line"
        raise InvalidValueError(message, param="api_keys_file")
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)


class Envelope:
    """Outermost: a request id on every answer, the HTTP metrics, and a last answer for unforeseen errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        since = monotonic()
        body = _WatchedBody(receive, Headers(scope=scope))

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            elif not message.get("more_body") and not body.is_complete:
                await send({**message, "more_body": True})
                await body.drain()
                message = {"type": "http.response.body"}
            await send(message)

        try:
            await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            log.info("client left %s", request_id)
        except Exception as error:  # the process edge: one failed request must not end others
            log.exception("request %s failed", request_id)
            if not status:
                await problem_of(error).response()(scope, receive, send_with_id)
        finally:
            _count(scope, status, monotonic() - since)


class _WatchedBody:
    """Knows whether a body was read to its end.

    Closing a connection with unread bytes resets it, and the client may lose the answer that tells it why;
    so a little of an unwanted body is read and dropped behind the answer.
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
    method = scope["method"] if scope["method"] in _METHODS else "other"
    shown = f"{status // 100}xx" if status else "none"
    metrics = cast(State, scope["state"])["services"].metrics
    metrics.http_requests.labels(handler, method, shown).inc()
    metrics.http_seconds.labels(handler).observe(seconds)


class KeyCheck:
    """Bearer keys, checked on the headers alone: an unknown caller's body is never read."""

    def __init__(self, app: ASGIApp, digests: tuple[bytes, ...]) -> None:
        self._app = app
        self._digests = digests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            tenant = self._tenant(Headers(scope=scope).get("authorization", ""))
            if tenant is None and scope["path"] not in OPEN_PATHS:
                await _unauthorised().response()(scope, receive, send)
                return
            scope.setdefault("state", {})["tenant"] = tenant or PUBLIC
        await self._app(scope, receive, send)

    def _tenant(self, header: str) -> str | None:
        if not self._digests:
            return PUBLIC
        scheme, _, key = header.partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        # no early exit: the time must not tell which key came close
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return digest.hex() if scheme.lower() == "bearer" and any(matches) else None


def _unauthorised() -> Problem:
    headers = {"www-authenticate": "Bearer", "connection": "close"}
    text = "this server needs an API key: Authorization: Bearer KEY"
    return Problem(401, text, code="invalid_api_key", headers=headers)


class BodyBounds:
    """No body longer than its route allows, declared or not, and none that stalls."""

    def __init__(
        self, app: ASGIApp, default_bytes: int, bytes_by_path: Mapping[str, int], idle_seconds: float
    ) -> None:
        self._app = app
        self._default_bytes = default_bytes
        self._bytes_by_path = bytes_by_path
        self._idle_seconds = idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._bytes_by_path.get(scope["path"], self._default_bytes)
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > max_bytes:
            await _too_large(declared, max_bytes).response()(scope, receive, send)
            return
        body = _BoundedBody(receive, max_bytes, self._idle_seconds)
        await self._app(scope, body.receive, send)


class _BoundedBody:
    """Counts a body as it is read."""

    def __init__(self, receive: Receive, max_bytes: int, idle_seconds: float) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._idle_seconds = idle_seconds
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
        return message


def _too_large(declared: str, max_bytes: int) -> Problem:
    text = f"the body is too large ({declared[:20]} bytes); at most {max_bytes} bytes are allowed"
    return Problem(413, text, code="body_too_large", param="body", headers={"connection": "close"})


def _stalled(seconds: float) -> HTTPException:
    text = f"no byte of the body came for {seconds:g} seconds"
    return Problem(408, text, code="body_timeout", param="body", headers={"connection": "close"})
