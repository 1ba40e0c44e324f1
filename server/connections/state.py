"""All connections, and for what of a client each of them waits."""

import asyncio
from collections.abc import Iterator
from operator import attrgetter
from time import monotonic
from typing import Protocol

from uvicorn.server import ServerState

from server.connections.refusals import Refusals
from server.problems import Problem

LOOK = 0.1
"""The part of the longest stall after which a reader is looked at again."""

_RETRY_SECONDS = "2"


def refusal(text: str, code: str) -> Problem:
    """For the state `refusal` of requests, none of which is let in."""
    return Problem(503, text, code=code, headers={"retry-after": _RETRY_SECONDS, "connection": "close"})


class Connection(Protocol):
    """What can be done to a connection whose client lets it wait."""

    def abort(self) -> None: ...

    def timeout_keep_alive_handler(self) -> None: ...

    def end_header(self) -> None: ...

    @property
    def deadline(self) -> float: ...  # of its reader

    def look_at_reader(self) -> None: ...

    def take_turn(self) -> None: ...


class Waiting:
    """Connections that wait for the same thing, and all as long at most: who waits longest comes first."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[Connection, float] = {}

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._since

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._since)

    def __len__(self) -> int:
        return len(self._since)

    def add(self, connection: Connection) -> None:
        self._since.pop(connection, None)
        self._since[connection] = monotonic()

    def discard(self, connection: Connection) -> None:
        self._since.pop(connection, None)

    def oldest(self) -> Connection | None:
        return next(iter(self._since), None)

    def pop_overdue(self) -> Connection | None:
        """One that has waited too long, which is then no longer waited for."""
        oldest = self.oldest()
        if oldest is None or monotonic() - self._since[oldest] < self._seconds:
            return None
        self.discard(oldest)
        return oldest


class ParserTurns:
    """Connections that have read more than is parsed at once; in each round of the event loop one goes on."""

    def __init__(self) -> None:
        self._waiting: dict[Connection, None] = {}
        self._round: asyncio.Handle | None = None

    def add(self, connection: Connection) -> None:
        self._waiting[connection] = None
        self._plan()

    def _plan(self) -> None:
        if self._waiting and self._round is None:
            self._round = asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._round = None
        connection = next(iter(self._waiting))
        del self._waiting[connection]
        try:
            connection.take_turn()
        finally:
            self._plan()


class Connections(ServerState):
    """What uvicorn keeps of all connections, with the order in which they give way to others."""

    def __init__(
        self, most: int, *, idle_seconds: float, header_seconds: float, stall_seconds: float, read_rate: int
    ) -> None:
        super().__init__()
        self._most = most
        self.stall_seconds = stall_seconds
        self.read_rate = read_rate
        self.turns = ParserTurns()
        self.refusals = Refusals()
        self.idle = Waiting(idle_seconds)  # for another request
        self.opening = Waiting(header_seconds)  # for the rest of headers, or of a body that is answered
        self.stalled = Waiting(stall_seconds * LOOK)  # for the client to read

    @property
    def are_busy(self) -> bool:
        """Whether a request runs, or a client has not read all of its answer."""
        return bool(self.tasks or len(self.stalled))

    def make_room(self) -> bool:
        """Close one connection where there are too many; False if all of them are at work."""
        if len(self.connections) <= self._most:
            return True
        slowest = min(self.stalled, key=attrgetter("deadline"), default=None)
        first = self.idle.oldest() or self.opening.oldest() or slowest
        if first is not None:
            first.abort()
        return first is not None

    def end_overdue(self) -> None:
        """Close what was waited for too long."""
        while (connection := self.idle.pop_overdue()) is not None:
            connection.timeout_keep_alive_handler()
        while (connection := self.opening.pop_overdue()) is not None:
            connection.end_header()
        while (connection := self.stalled.pop_overdue()) is not None:
            connection.look_at_reader()
