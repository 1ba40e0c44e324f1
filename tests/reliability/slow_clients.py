"""Clients that take their time: each opens a connection and keeps it for as long as it is let."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from server.middleware.keys import PAGE_FILES
from tests import fakes
from tests.reliability.program import completion

_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
# more than small buffers hold
_LARGE = f"GET {PAGE_FILES}/redoc.standalone.js HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
_PAUSE_SECONDS = 0.002  # what is tried is that they stay, not that they come all at once
_GONE = select.POLLHUP | select.POLLERR


@dataclass(frozen=True, slots=True)
class Kind:
    """What a client sends at once, and what it then sends again and again, every so many seconds."""

    name: str
    first: bytes
    drip: bytes = b""
    drip_seconds: float = 1.0
    can_read: bool = True


def kinds(drip_seconds: float) -> dict[str, Kind]:
    """Headers that drip, a body that never comes, one that drips, and an answer that is not read."""
    half = _HEAD + b"Content-Length: 1000\r\n\r\n{"
    every = (
        Kind("header", _HEAD + b"x-a: ", b"a", drip_seconds),
        Kind("silent body", half),
        Kind("slow body", half, b" ", drip_seconds),
        Kind("reader", _LARGE, can_read=False),
    )
    return {kind.name: kind for kind in every}


@dataclass(slots=True)
class _Held:
    kind: Kind
    sock: socket.socket
    since: float
    dripped_at: float

    def drip(self) -> None:
        if self.kind.drip and time.monotonic() - self.dripped_at > self.kind.drip_seconds:
            self.dripped_at = time.monotonic()
            with contextlib.suppress(OSError):
                self.sock.send(self.kind.drip)


class SlowClients:
    """All connections, watched by one thread."""

    def __init__(self, port: int) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._held: dict[int, _Held] = {}
        self._poll = select.poll()
        self._port = port

    @property
    def num_held(self) -> int:
        return len(self._held)

    def open(self, kind: Kind, count: int) -> None:
        self.seconds.setdefault(kind.name, [])
        for _ in range(count):
            self._open(kind)
            time.sleep(_PAUSE_SECONDS)

    def _open(self, kind: Kind) -> None:
        sock = socket.socket()
        if not kind.can_read:  # small buffers on both sides, so that a small answer fills them
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        sock.connect(("127.0.0.1", self._port))
        since = time.monotonic()
        sock.sendall(kind.first)
        self._held[sock.fileno()] = _Held(kind, sock, since, since)
        self._poll.register(sock, select.POLLIN)

    def watch(self, seconds: float) -> None:
        """Until all have been closed, or the time is over."""
        end = time.monotonic() + seconds
        while self._held and time.monotonic() < end:
            for fd, events in self._poll.poll(50):
                held = self._held[fd]
                if not held.kind.can_read and not events & _GONE:
                    held.since = time.monotonic()  # the answer is there, and is not read
                    self._poll.modify(fd, 0)
                elif events & _GONE or _has_ended(held.sock):
                    self._close(fd)
            for held in self._held.values():
                held.drip()

    def _close(self, fd: int) -> None:
        self._poll.unregister(fd)
        held = self._held.pop(fd)
        held.sock.close()
        self.seconds[held.kind.name].append(time.monotonic() - held.since)

    def close(self) -> None:
        for held in self._held.values():
            held.sock.close()
        self._held.clear()


def _has_ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(65536)
    except OSError:
        return True


@dataclass(slots=True)
class Traffic:
    """What a client like any other saw meanwhile."""

    seconds: list[float] = field(default_factory=list[float])
    num_failed: int = 0


@contextmanager
def traffic(url: str, pause: float = 0.02) -> Generator[Traffic]:
    """Questions, one after the other, each on a connection of its own, for the time of the `with`."""
    seen, is_over = Traffic(), threading.Event()

    def ask() -> None:
        while not is_over.wait(pause):
            begin = time.monotonic()
            try:
                live = httpx.get(f"{url}/health/live", timeout=5)
                answer = httpx.post(
                    f"{url}/v1/chat/completions", json=completion("hello", model=fakes.MODEL), timeout=5
                )
                seen.num_failed += not (live.is_success and answer.is_success)
            except httpx.HTTPError:
                seen.num_failed += 1
            seen.seconds.append(time.monotonic() - begin)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()
