"""Either end of the socket between web and engine: whole messages with their descriptors, never blocking."""

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from server.engine.packing import HEADER, MAX_MESSAGE_BYTES, MessageError, pack, unpack
from server.engine.wire import Message

log = logging.getLogger(__name__)

_READ_BYTES = 256 * 1024
_MAX_FDS = 64

OnMessage = Callable[[Message, list[int]], None]


class Channel:
    """Sends and receives messages on a stream socket that it owns.

    `on_message` becomes the owner of a message's descriptors; `on_closed` is called once.
    """

    def __init__(self, sock: socket.socket, on_message: OnMessage, on_closed: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._inbox = bytearray()
        self._inbox_fds: deque[int] = deque()
        self._outbox: deque[tuple[memoryview, list[int]]] = deque()
        self._is_sent = asyncio.Event()
        self._is_sent.set()
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def is_closed(self) -> bool:
        return self._sock.fileno() < 0

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Queue a message. Its descriptors are closed here once they are sent or cannot be.

        Raises:
            ConnectionError: the other side has closed the socket.
            MessageError: the message is too long.
        """
        try:
            data = memoryview(pack(message))
        except MessageError:
            close_all(fds)
            raise
        if self.is_closed:
            close_all(fds)
            raise ConnectionError("the channel is closed")
        self._outbox.append((data, list(fds)))
        self._is_sent.clear()
        if len(self._outbox) == 1:
            self._write()

    async def flush(self) -> None:
        """Wait until everything is sent, or cannot be any more."""
        await self._is_sent.wait()

    def close(self) -> None:
        """Drop everything queued; idempotent."""
        if self.is_closed:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        close_all(self._inbox_fds)
        for _, fds in self._outbox:
            close_all(fds)
        self._outbox.clear()
        self._inbox_fds.clear()
        self._is_sent.set()
        self._on_closed()

    def _write(self) -> None:
        try:
            while self._outbox:
                data, fds = self._outbox[0]
                sent = socket.send_fds(self._sock, [data], fds) if fds else self._sock.send(data)
                close_all(fds)  # they travel with the first byte
                self._outbox[0] = (data[sent:], [])
                if sent == len(data):
                    self._outbox.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._sock.fileno(), self._write)
        except OSError:
            self.close()
        else:
            self._loop.remove_writer(self._sock.fileno())
            self._is_sent.set()

    def _read(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._sock, _READ_BYTES, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        self._inbox += data
        self._inbox_fds.extend(fds)
        try:
            self._deliver()
        except (MessageError, ValueError, TypeError) as error:  # the last two come from msgpack
            log.error("the other side of the socket does not keep to the protocol: %s", error)  # noqa: TRY400 - one line
            self.close()
        if not data:
            self.close()

    def _deliver(self) -> None:
        while not self.is_closed and len(self._inbox) >= HEADER.size:
            num_bytes, num_fds = HEADER.unpack_from(self._inbox)
            end = HEADER.size + num_bytes
            if num_bytes > MAX_MESSAGE_BYTES:
                raise MessageError(f"a message of {num_bytes} bytes")
            if len(self._inbox) < end:
                return
            message = unpack(bytes(self._inbox[HEADER.size : end]))
            del self._inbox[:end]
            num_fds = min(num_fds, len(self._inbox_fds))
            if num_fds != message.num_fds:
                raise MessageError(
                    f"{type(message).__name__} came with {num_fds} of {message.num_fds} descriptors"
                )
            self._on_message(message, [self._inbox_fds.popleft() for _ in range(num_fds)])


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors, of which some may be closed already."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
