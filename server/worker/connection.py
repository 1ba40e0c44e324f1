"""The engine's end of the socket: blocking reads of whole messages with their descriptors, locked writes."""

import os
import socket
from collections import deque
from threading import Lock

from server.engine.wire import HEADER, MAX_MESSAGE_BYTES, Message, WireError, pack, unpack

MAX_FDS = 4
READ_BYTES = 1 << 16


class Connection:
    """One reader thread; any thread may send."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = Lock()
        self._buffer = bytearray()
        self._fds: deque[int] = deque()

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Write one message; `fds` stay the caller's to close."""
        data = memoryview(pack(message))
        with self._lock:
            sent = socket.send_fds(self._sock, [data], list(fds)) if fds else self._sock.send(data)
            if rest := data[sent:]:  # sending nothing to a peer that has read all and left is an error, too
                self._sock.sendall(rest)

    def receive(self) -> tuple[Message, tuple[int, ...]] | None:
        """The next message and its descriptors, which become the caller's; None when the peer is gone."""
        header = self._take(HEADER.size)
        if header is None:
            return None
        num_bytes, num_fds = HEADER.unpack(header)
        if num_bytes > MAX_MESSAGE_BYTES:
            raise WireError(f"a message of {num_bytes} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
        payload = self._take(num_bytes)
        if payload is None:
            return None
        message = unpack(payload)
        if num_fds != message.num_fds:
            raise WireError(f"{type(message).__name__} came with {num_fds} descriptors")
        if len(self._fds) < num_fds:
            raise WireError(f"a message with {len(self._fds)} of its {num_fds} descriptors")
        return message, tuple(self._fds.popleft() for _ in range(num_fds))

    def close(self) -> None:
        """Close the socket and every descriptor that no message claimed."""
        self._sock.close()
        while self._fds:
            os.close(self._fds.popleft())

    def _take(self, num_bytes: int) -> bytes | None:
        while len(self._buffer) < num_bytes:
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, READ_BYTES, MAX_FDS)
            except ConnectionResetError:  # the peer closed with unread messages
                return None
            self._fds.extend(fds)
            if not data:
                return None
            self._buffer += data
        taken = bytes(self._buffer[:num_bytes])
        del self._buffer[:num_bytes]
        return taken
