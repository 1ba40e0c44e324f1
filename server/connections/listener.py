"""The HTTP server: its address, its limits, and the signals that end it."""

import errno
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from bt_model.errors import InvalidValueError, explain
from server.settings import Settings

_HEADER_BYTES = 16 * 1024
_KEEP_ALIVE_SECONDS = 10


def uvicorn_config(app: object, settings: Settings) -> uvicorn.Config:
    """The HTTP server's limits."""
    return uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType] - uvicorn's own type for applications is private
        lifespan="on",
        log_config=None,  # its lines are of the same form as ours
        access_log=False,  # the log has a line of ours for every request, with its id
        server_header=False,
        proxy_headers=False,
        http="h11",  # httptools does not limit headers
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.grace_seconds,
    )


def listening(settings: Settings) -> socket.socket:
    """A bound socket, so that a port in use is reported before a model is loaded."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
    except socket.gaierror as error:
        allowed = "127.0.0.1, 0.0.0.0 or another address of this machine"
        text = f"host is {settings.host!r}, which names no address; allowed: {allowed}"
        raise InvalidValueError(text, param="host") from error
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # asyncio does this only for sockets it made itself; without it small chunks wait 40 ms for an ACK
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind((settings.host, settings.port))
        except OSError:
            sock.close()
            raise
    except OSError as error:
        wrong = "host" if error.errno == errno.EADDRNOTAVAIL else "port"
        why = "this port needs privileges" if error.errno == errno.EACCES else explain(error)
        text = f"cannot listen on {settings.host}:{settings.port}: {why}; choose another {wrong}"
        raise InvalidValueError(text, param=wrong) from error
    return sock


@contextmanager
def ended_by_signals(server: uvicorn.Server) -> Generator[None]:
    """Signals end the server, also before and after it serves, so that everything else is stopped in turn.

    uvicorn raises a signal again once it has ended because of it; the default action would end this process.
    """

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
