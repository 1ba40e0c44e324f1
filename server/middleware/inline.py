"""Videos inside of a chat completion, on disk for as long as its request. Pure ASGI."""

import asyncio
import ctypes
import json
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from typing import cast

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bt_model.errors import BtchatError
from server.admission import HeldBytes
from server.bodies.inline import InlineJson
from server.deps import LifespanState
from server.middleware.door import HELD
from server.problems import Problem, problem_of
from server.uploads.sources import InlineVideo, lend
from server.uploads.store import VideoStore


class InlineVideos:
    """Hands a body on as one message, without its videos, which are in the request's state as `inline`."""

    def __init__(self, app: ASGIApp, paths: Collection[str], max_bytes: int) -> None:
        """`max_bytes` is for what remains of the body."""
        self._app = app
        self._paths = paths
        self._max_bytes = max_bytes
        self._num_running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        services = cast(LifespanState, scope["state"])["services"]
        self._num_running += 1
        async with AsyncExitStack() as lifetime:
            videos = _Videos(services.store, scope["state"]["tenant"], lifetime)
            held: HeldBytes = scope["state"][HELD]
            body = _Body(receive, videos, self._max_bytes, held.keep)
            lifetime.callback(self._end, body.json.videos)
            scope["state"]["inline"] = body.json.videos
            await self._app(scope, body.receive, send)

    def _end(self, videos: Mapping[str, object]) -> None:
        """The last of several gives the memory that their pieces took back to the system."""
        self._num_running -= 1
        if videos and not self._num_running:
            asyncio.get_running_loop().run_in_executor(None, _trim)


def _trim() -> None:
    """The C library keeps what is freed between what is not: after 60 large bodies, a hundred megabytes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # other C libraries have none
        trim(0)


class _Videos:
    """Receives the videos of one request, as uploads are received."""

    def __init__(self, store: VideoStore, tenant: str, lifetime: AsyncExitStack) -> None:
        self._store = store
        self._tenant = tenant
        self._lifetime = lifetime

    async def keep(self, content: AsyncGenerator[bytes]) -> InlineVideo:
        return await lend(self._store, content, self._tenant, self._lifetime)


class _Body:
    """A body as the application receives it."""

    def __init__(
        self, receive: Receive, videos: _Videos, max_bytes: int, keep: Callable[[int], None]
    ) -> None:
        self._receive = receive
        self._keep = keep
        self._is_read = False
        self.json = InlineJson(self._chunks(), videos.keep, max_bytes)

    async def receive(self) -> Message:
        if self._is_read:
            return await self._receive()
        self._is_read = True
        try:
            content = await self.json.read()
        except json.JSONDecodeError as error:
            raise _closing(Problem(400, f"the body is not JSON: {error.msg}", code="invalid_json")) from error
        except (BtchatError, HTTPException) as error:
            raise _closing(problem_of(error)) from error
        if self.json.videos:
            self._keep(len(content))  # only its JSON is held
        return {"type": "http.request", "body": content, "more_body": False}

    async def _chunks(self) -> AsyncGenerator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return


def _closing(problem: Problem) -> Problem:
    """The same, after which the rest of the body is not read."""
    problem.headers = {**(problem.headers or {}), "connection": "close"}
    return problem
