"""Disposable decode children: a clip that kills one, or takes too long, costs that child and nothing else."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bt_model.errors import TrainingError
from bt_model.training.data.decode_child import READY, Request

_ROOT = Path(__file__).parents[3]  # where the package is
_START_SECONDS = 60.0
_MAX_FAILED_STARTS = 5
_RUN = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r}); "
    "from bt_model.training.data.decode_child import serve; serve(0, int(sys.argv[1]))"
)

Reply = NDArray[Any] | str  # a clip's pixels (T, side, side, 3) uint8, or why there are none


class Pool(Protocol):
    """What reads clips in the background; requests carry a ticket, under which their reply comes back."""

    @property
    def num_idle(self) -> int:
        """How many requests can be sent now."""
        ...

    def send(self, ticket: int, request: Request) -> None:
        """Give it a request; something must be idle."""
        ...

    def poll(self, seconds: float) -> list[tuple[int, Reply]]:
        """What came within that time: at once if there is something."""
        ...

    def close(self) -> None:
        """End whatever is at work."""
        ...


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    connection: Connection
    is_ready: bool = False
    ticket: int | None = None
    deadline: float = field(default_factory=lambda: time.monotonic() + _START_SECONDS)


class DecodePool:
    """`size` children; requests carry a ticket, under which their reply comes back in any order.

    Must be made and used in one thread: the children die with it.
    """

    def __init__(self, size: int, seconds: float, python: str = sys.executable) -> None:
        self._seconds = seconds
        self._python = python
        self._failed_starts = 0
        self._children = [_start(python) for _ in range(size)]

    @property
    def pids(self) -> list[int]:
        """The children's processes as they are now."""
        return [child.process.pid for child in self._children]

    @property
    def num_idle(self) -> int:
        return sum(child.is_ready and child.ticket is None for child in self._children)

    def send(self, ticket: int, request: Request) -> None:
        """Give a request to an idle child; there must be one."""
        child = next(each for each in self._children if each.is_ready and each.ticket is None)
        child.ticket, child.deadline = ticket, time.monotonic() + self._seconds
        try:
            child.connection.send_bytes(request.pack())
        except OSError:  # it died meanwhile, which `poll` finds out
            child.deadline = 0.0

    def poll(self, seconds: float) -> list[tuple[int, Reply]]:
        """What came within that time: at once if there is something.

        Raises:
            TrainingError: children do not start.
        """
        busy = [child for child in self._children if not child.is_ready or child.ticket is not None]
        if not busy:
            time.sleep(seconds)
            return []
        heard = wait([child.connection for child in busy], seconds)
        replies: list[tuple[int, Reply]] = []
        for child in busy:
            reply = self._listen(child) if child.connection in heard else self._late(child)
            if reply is not None and child.ticket is not None:
                replies.append((child.ticket, reply))
                child.ticket = None
        return replies

    def _listen(self, child: _Child) -> Reply | None:
        """A child's word; its end, too, is one."""
        try:
            message = child.connection.recv_bytes()
            if not child.is_ready:
                child.is_ready, self._failed_starts = message == READY, 0
                return None
            told = json.loads(message)
            if "why" in told:
                return str(told["why"])
            return np.frombuffer(child.connection.recv_bytes(), np.uint8).reshape(told["shape"])
        except (EOFError, OSError, ValueError):  # it died, or talks nonsense
            return self._replaced(child, "the decoder died of it")

    def _late(self, child: _Child) -> Reply | None:
        if time.monotonic() < child.deadline:
            return None
        return self._replaced(child, f"not decoded within {self._seconds:g} s")

    def _replaced(self, child: _Child, why: str) -> Reply | None:
        """Kill a child and start another in its place; None where it had no clip yet."""
        was_ready = child.is_ready
        _end(child)
        if not was_ready:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise TrainingError("the decode children do not start; their own messages say why")
        fresh = _start(self._python)
        child.process, child.connection, child.is_ready = fresh.process, fresh.connection, False
        child.deadline = fresh.deadline
        return why if was_ready else None

    def close(self) -> None:
        """End all children."""
        for child in self._children:
            _end(child)


def _start(python: str) -> _Child:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [python, "-P", "-c", _RUN, str(os.getpid())], stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return _Child(process, Connection(ours.detach()))


def _end(child: _Child) -> None:
    child.process.kill()
    child.connection.close()
    child.process.wait()
