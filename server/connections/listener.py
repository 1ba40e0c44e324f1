"""The address that the server listens on, and the signals that end it."""

import errno
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from bt_model.errors import InvalidValueError, explain
from server.settings import Settings


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
