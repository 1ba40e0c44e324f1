"""HTTP/1.1 on one connection, as uvicorn speaks it, with an end to every wait for the client."""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextvars import Context
from time import monotonic
from typing import Any, cast

import h11
from starlette.datastructures import Headers
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from server.connections.parser import ParserInTurns
from server.connections.reader import ReaderPace
from server.connections.state import LOOK, Connections, refusal
from server.deps import LifespanState
from server.live import PATH
from server.log.request import FACTS, ID_HEADER, REQUEST_ID, begin
from server.problems import Problem

_HEADER_BYTES = 16 * 1024
_LONGEST_REASON = 200
_RESET = struct.pack("ii", 1, 0)


class BoundedProtocol(H11Protocol):
    """Headers come within their time, answers are read, and a connection too many gives way or is refused."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.conn: ParserInTurns = ParserInTurns(_HEADER_BYTES)

    @property
    def _all(self) -> Connections:
        return cast(Connections, self.server_state)

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn's
        super().connection_made(transport)
        self.flow = _Flow(transport, self._may_read)
        self._reader = ReaderPace(self._all.stall_seconds, self._all.read_rate)
        transport.set_write_buffer_limits(high=0)  # paused then means: the client reads slower than we write
        if not self._all.make_room():
            busy = refusal("all connections of this server are at work", "overloaded")
            self.app_state = {**self.app_state, "refusal": busy}
        self._all.opening.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self in self._all.idle:
            self._all.idle.discard(self)
            self._all.opening.add(self)
        super().data_received(data)

    def handle_events(self) -> None:
        """Parse as much as one turn allows; the rest waits until the body is asked for, which costs a key.

        A request that was sent ahead waits until the answer before it has been read.
        """
        if self._is_unread:
            self.conn.end_turn()
            self.flow.pause_reading()
            return
        before = self.cycle
        self.conn.begin_turn()
        super().handle_events()
        if self.cycle is not before:
            self._all.opening.discard(self)
            self._reader.begin()
            self.scope.setdefault("state", {})["linger"] = self.linger
        if (fault := self.conn.fault) is not None:
            text = f"this is not HTTP/1.1: {fault}"[:_LONGEST_REASON]
            self._refuse(Problem(400, text, code="invalid_http"))
        elif self.conn.is_behind or (self._is_answering and self.cycle.body):
            self.flow.pause_reading()
        if self.conn.is_behind and not self._is_answering:
            self._all.turns.add(self)

    def linger(self) -> None:
        """The answer has been sent; what is left of the body is waited for, and needs no place."""
        if self._is_answering:
            self._all.opening.add(self)

    def take_turn(self) -> None:
        """Go on with what was read before."""
        if self.transport.is_closing() or self._is_unread:
            return
        self.handle_events()
        if not (self._is_answering and self.cycle.body):
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # uvicorn's timer; here one look at the oldest serves all
        self._await_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader.wait(self.transport.get_write_buffer_size())
        self._all.stalled.add(self)

    def resume_writing(self) -> None:
        self._reader.look(0)
        self._all.stalled.discard(self)
        super().resume_writing()
        if not self._is_answering:
            self.flow.resume_reading()
        self._await_request()

    def end_header(self) -> None:
        """The headers did not come in time."""
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            text = "the request's headers did not come in time"
            self._refuse(Problem(408, text, code="header_timeout"))
        else:
            self.transport.close()

    @property
    def deadline(self) -> float:
        """When its reader is too slow."""
        return self._reader.deadline

    def look_at_reader(self) -> None:
        """Wait on for a client that reads; end one that is too slow, or will be before the next look."""
        self._reader.look(self.transport.get_write_buffer_size())
        if self.deadline > monotonic() + self._all.stall_seconds * LOOK:
            self._all.stalled.add(self)
            return
        # else the system would keep what it was given to send for minutes
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        self._leave()
        self.connections.discard(self)
        self.transport.abort()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison] - before the first request it is None

    @property
    def _is_unread(self) -> bool:
        """Whether the last answer is complete, and its client has not read all of it."""
        return self in self._all.stalled and not self._is_answering

    def _may_read(self) -> bool:
        """Else what was read before is parsed first, when it is this one's turn."""
        if self.conn.is_behind:
            self._all.turns.add(self)
        return not (self.conn.is_behind or self.transport.is_closing())

    def _await_request(self) -> None:
        """Wait for the next request once the client has all of the last answer, unless one was sent ahead."""
        if not (self._is_answering or self.transport.is_closing() or self in self._all.stalled):
            is_idle = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
            self._all.opening.discard(self)
            (self._all.idle if is_idle else self._all.opening).add(self)

    def _leave(self) -> None:
        for waiting in (self._all.idle, self._all.opening, self._all.stalled):
            waiting.discard(self)

    def _should_upgrade(self) -> bool:
        """Where a WebSocket is asked for that there is; others are answered as if nothing had been asked."""
        asked = (self.scope["method"], self.scope["http_version"], self.scope["path"].rstrip("/"))
        return asked == ("GET", "1.1", PATH) and self._get_upgrade() == b"websocket"

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._leave()
        super().handle_websocket_upgrade(event)

    def _refuse(self, problem: Problem) -> None:
        """Close, with an answer in place of the application where it has not begun one."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            Context().run(self._answer, problem)  # the lines of whoever called this are not the request's
        self.transport.close()

    def _answer(self, problem: Problem) -> None:
        is_begun = self._is_answering
        state = self.scope.setdefault("state", {}) if is_begun else {}
        given = Headers(raw=self.headers).get(ID_HEADER, "") if is_begun else ""
        facts = begin(given, state.setdefault(FACTS, {}))
        answer = problem.response()
        facts |= {"status": problem.status_code, "client": self.client and self.client[0]}
        if is_begun:  # the application writes its line, and counts it
            state["refusal"] = problem
            self.cycle.disconnected = True
        else:
            metrics = cast(LifespanState, self.app_state)["services"].metrics
            self._all.refusals.count(metrics, problem, facts)
        headers = [
            *answer.raw_headers,
            (ID_HEADER.encode(), str(facts[REQUEST_ID]).encode()),
            (b"connection", b"close"),
        ]
        reason = STATUS_PHRASES[problem.status_code]
        for event in (
            h11.Response(status_code=problem.status_code, reason=reason, headers=headers),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")


class _Flow(FlowControl):
    """Reads on where `may_read`; pauses whatever uvicorn, which resumes the transport itself, has told it."""

    def __init__(self, transport: asyncio.Transport, may_read: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._may_read = may_read

    def pause_reading(self) -> None:
        self.read_paused = True
        if self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._may_read():
            super().resume_reading()
