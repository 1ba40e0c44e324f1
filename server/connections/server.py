"""uvicorn's server, which goes on listening while running requests end."""

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import cast

import uvicorn

from server.connections.protocol import BoundedProtocol
from server.connections.sockets import BoundedSocket
from server.connections.state import Connections, refusal
from server.deps import LifespanState
from server.settings import Settings

log = logging.getLogger(__name__)

_OWN_DESCRIPTORS = 64  # of catalogue, log, engine and decode children
_DESCRIPTORS_PER_REQUEST = 2  # a video's file, and its frames
_MAX_BACKLOG = 2048
_LOOK_SECONDS = 0.05


class HttpServer(uvicorn.Server):
    """The HTTP server with its limits.

    After a signal new work is refused with a status, while what runs has time to end. After that, or a second
    signal, `give_up` is called to end it.
    """

    def __init__(self, app: object, settings: Settings, give_up: Callable[[], None] = lambda: None) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        reserve = _OWN_DESCRIPTORS + _DESCRIPTORS_PER_REQUEST * settings.max_requests
        most = min(settings.max_connections, max(limit - reserve, limit // 4))
        super().__init__(_config(app, settings, backlog=min(_MAX_BACKLOG, (limit - most) // 4)))
        self._grace_seconds = settings.grace_seconds
        self._give_up = give_up
        self._is_hurried = False
        self._connections = self.server_state = Connections(
            most,
            idle_seconds=settings.keep_alive_seconds,
            header_seconds=settings.header_seconds,
            stall_seconds=settings.stream_stall_seconds,
            read_rate=settings.min_body_rate,
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        self._is_hurried = self.should_exit  # the second signal
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        self._connections.end_overdue()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state = self.lifespan.state
        state["refusal"] = refusal("this server is being stopped", "stopping")
        if "services" in state:
            cast(LifespanState, state)["services"].live.stopping.set()
        await self._drain()
        self._give_up()
        await super().shutdown(sockets)

    async def _drain(self) -> None:
        """Return when nothing runs, the time is over, or another signal has come."""
        log.info(
            "stopping; %d requests may end within %d s", len(self.server_state.tasks), self._grace_seconds
        )
        end = monotonic() + self._grace_seconds
        while self._connections.are_busy and monotonic() < end and not self._is_hurried:
            self._connections.end_overdue()
            await asyncio.sleep(_LOOK_SECONDS)


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has an end that its hard limit does not tell
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _config(app: object, settings: Settings, backlog: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType] - uvicorn's own type for applications is private
        lifespan="on",
        log_config=None,  # its lines are of the same form as ours
        access_log=False,  # the log has a line of ours for every request, with its id
        server_header=False,
        proxy_headers=False,
        http=BoundedProtocol,  # on h11: httptools does not limit headers
        ws=BoundedSocket,
        ws_max_size=settings.live_message_bytes,
        ws_ping_interval=settings.ping_seconds,
        ws_ping_timeout=settings.stream_stall_seconds,
        ws_per_message_deflate=False,  # pictures are compressed already
        backlog=backlog,  # connections that are accepted at once, before any of them can be closed
        timeout_graceful_shutdown=1,  # for connections to close after that
    )
