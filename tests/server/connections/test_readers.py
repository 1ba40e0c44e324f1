"""Clients that are slow to read: how long they may be, who of them gives way, and what waits for them."""

import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest

from server.connections.reader import ReaderPace
from server.connections.state import Connection, Connections
from server.middleware.keys import PAGE_FILES
from server.settings import Settings
from tests import fakes
from tests.server.conftest import QUICK, RunningServer, running
from tests.server.test_streams import until

LARGE = f"GET {PAGE_FILES}/redoc.standalone.js HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


class Clock:
    """The time, as these modules see it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("reader", "state"):
        monkeypatch.setattr(f"server.connections.{module}.monotonic", clock)
    return clock


def seconds_kept(clock: Clock, *, bytes_a_second: int, size: int = 10**6) -> float:
    """Of a reader of 30 s and 1,000 bytes a second."""
    pace, begin, unsent = ReaderPace(30, 1000), clock.now, size
    pace.wait(unsent)
    while unsent > 0 and clock.now < pace.deadline:
        clock.now += 1
        unsent -= bytes_a_second
        pace.look(unsent)
    return clock.now - begin


def test_a_reader_has_its_time_and_more_for_what_it_reads(clock: Clock) -> None:
    assert seconds_kept(clock, bytes_a_second=0) == 30
    assert seconds_kept(clock, bytes_a_second=1) == 31
    assert seconds_kept(clock, bytes_a_second=500) == 60
    assert seconds_kept(clock, bytes_a_second=1000) == 1000  # all of it


def test_what_was_earned_is_for_one_answer_and_no_silence(clock: Clock) -> None:
    pace = ReaderPace(30, 1000)
    pace.wait(10**6)
    clock.now += 1
    pace.look(1000)
    assert pace.deadline == clock.now + 30
    clock.now += 29
    pace.look(0)
    clock.now += 100  # in which nothing is waited for
    pace.wait(10)
    assert pace.deadline == clock.now + 30
    pace.begin()
    clock.now += 20
    pace.look(9)
    pace.wait(9)
    assert pace.deadline == pytest.approx(clock.now + 10, abs=0.01)


class Reader:
    """A connection whose client reads at the end of these steps, or does not."""

    def __init__(self, name: str, aborted: list[str], steps: int = 0) -> None:
        self.name, self._aborted, self._steps = name, aborted, steps
        self._pace, self._unsent = ReaderPace(30, 1000), 10**6
        self._pace.wait(self._unsent)

    @property
    def deadline(self) -> float:
        return self._pace.deadline

    def abort(self) -> None:
        self._aborted.append(self.name)

    def look_at_reader(self) -> None:
        self._unsent -= self._steps
        self._pace.look(self._unsent)
        connections.stalled.add(cast(Connection, self))


connections: Connections


def test_who_gives_way_is_who_would_be_ended_first(clock: Clock) -> None:
    global connections  # noqa: PLW0603 - the readers' own
    connections = Connections(2, idle_seconds=10, header_seconds=10, stall_seconds=30, read_rate=1000)
    aborted = list[str]()

    def open_reader(name: str, steps: int = 0) -> None:
        reader = cast(Connection, Reader(name, aborted, steps))
        connections.connections.add(reader)  # pyright: ignore[reportArgumentType] - as uvicorn keeps them
        connections.stalled.add(reader)

    open_reader("silent")
    open_reader("dripping", steps=1)
    open_reader("slow", steps=3000)
    for step in range(250):
        clock.now += 0.1
        connections.end_overdue()
        if step == 229:
            open_reader("paused")
    for expected in ("silent", "dripping", "paused", "slow"):
        assert connections.make_room()
        assert aborted.pop() == expected
        gone = next(each for each in connections.stalled if cast(Reader, each).name == expected)
        connections.stalled.discard(gone)


@contextmanager
def unread(server: RunningServer, request: bytes) -> Generator[socket.socket]:
    """A connection on which this was sent and little is read; with small buffers on its side."""
    address = httpx.URL(server.url)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        connection.settimeout(20)
        connection.connect((address.host, address.port or 0))
        connection.sendall(request)
        assert connection.recv(9) == b"HTTP/1.1 "
        yield connection


def test_a_reader_that_drips_is_ended(tmp_path: Path) -> None:
    values = {"data_dir": tmp_path, "stream_stall_seconds": 1.0, "min_body_rate": 10**9}
    with running(Settings.model_validate(QUICK | values)) as server, unread(server, LARGE) as connection:
        begin = time.monotonic()

        def drip() -> None:
            while connection.recv(4096) and time.monotonic() - begin < 10:
                time.sleep(0.01)  # a step of the system's buffers in each third of a second

        with pytest.raises(ConnectionResetError):
            drip()
        assert time.monotonic() - begin < 5


def test_a_request_sent_ahead_begins_when_the_answer_before_it_has_been_read(server: RunningServer) -> None:
    body = b'{"model":"%s","messages":[{"role":"user","content":"hello"}]}' % fakes.MODEL.encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    ask = head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    admission = server.services.admission
    with unread(server, LARGE + ask) as connection:
        assert not until(lambda: admission.num_running, 0.5)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.count(b"HTTP/1.1 200 ") == 1  # and the one before, of which a part was read
    assert b'"chat.completion"' in answer
