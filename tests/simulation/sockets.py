"""A connected socket without a kernel: whole bytes, descriptors beside them, short writes now and then."""

import array
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.draws import Draws
from tests.simulation.loop import SimulatedLoop

Deliver = Callable[[bytes, list[int]], None]
_FIRST_NUMBER = 1_000_000  # far from real descriptors
_INT = array.array("i").itemsize


class SimulatedSocket:
    """The web process's end; what it sends is handed to `deliver`, which then owns the descriptors."""

    _numbers = _FIRST_NUMBER

    def __init__(self, loop: SimulatedLoop, draws: Draws, deliver: Deliver) -> None:
        self._loop = loop
        self._draws = draws
        self._deliver = deliver
        self._number = SimulatedSocket._numbers = SimulatedSocket._numbers + 1
        self._inbox = bytearray()
        self._inbox_fds: list[int] = []
        self._is_ended = self._is_told = False

    # --- as the channel uses it

    def setblocking(self, flag: bool) -> None: ...

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        self._number = -1
        for fd in self._inbox_fds:
            os.close(fd)
        self._inbox_fds.clear()

    def send(self, data: memoryview) -> int:
        return self.sendmsg([data])

    def sendmsg(self, buffers: Sequence[memoryview], ancillary: Sequence[Any] = ()) -> int:
        if self._is_ended:
            raise BrokenPipeError
        data = bytes(buffers[0])
        if self._draws.below(64) == 0:
            raise BlockingIOError
        if self._draws.below(32) == 0:
            data = data[: 1 + self._draws.below(len(data))]
        fds = [os.dup(fd) for _, _, each in ancillary for fd in each]
        self._deliver(data, fds)
        return len(data)

    def recvmsg(self, size: int, _ancillary: int, _flags: int = 0) -> tuple[bytes, list[Any], int, None]:
        if not self._inbox:
            if self._is_ended:
                return b"", [], 0, None
            raise BlockingIOError
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        fds, self._inbox_fds = self._inbox_fds, []
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
        return data, rights, 0, None

    # --- as the other end uses it

    def put(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Bytes and descriptors of the other end, which are this socket's from now on."""
        if self._number < 0 or self._is_ended:
            for fd in fds:
                os.close(fd)
            return
        self._inbox += data
        self._inbox_fds += fds
        self._tell()

    def end(self) -> None:
        """The other end is closed; what it sent before can still be read."""
        self._is_ended = True
        self._tell()

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._is_told = False
        was = len(self._inbox)
        is_read = self._loop.readable(self._number) and self._number >= 0
        if is_read and (self._is_ended or 0 < len(self._inbox) != was):
            self._tell()
