"""A proxy whose connections break: after some bytes from the client, the first few times."""

import contextlib
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager


class BreakingProxy:
    """Forwards connections to a server, and ends one after every `every` bytes, `times` times."""

    def __init__(self, target: str, every: int, times: int) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target, self._every, self._left = (host, int(port)), every, times
        self._lock, self._since, self.num_broken, self.num_bytes = threading.Lock(), 0, 0, 0
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self.is_refusing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                thread = threading.Thread(
                    target=self._connect, args=(self._listener.accept()[0],), daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_all()
        for each in self._threads:
            each.join(10)

    def break_all(self) -> None:
        with self._lock:
            _shut(*self._open)

    def _connect(self, client: socket.socket) -> None:
        if self.is_refusing:
            client.close()
            return
        with client, socket.create_connection(self._target) as server:
            with self._lock:
                self._open |= {client, server}
            back = threading.Thread(target=self._copy, args=(server, client, False), daemon=True)
            back.start()
            self._copy(client, server, True)
            back.join()
            with self._lock:
                self._open -= {client, server}

    def _copy(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                if is_request and self._breaks(len(data)):
                    break
        _shut(sink, source)

    def _breaks(self, num_bytes: int) -> bool:
        with self._lock:
            self._since += num_bytes
            self.num_bytes += num_bytes
            if self._since < self._every or not self._left:
                return False
            self._since, self._left, self.num_broken = 0, self._left - 1, self.num_broken + 1
            return True


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def breaking_proxy(target: str, *, every: int, times: int) -> Generator[BreakingProxy]:
    """Serve for the time of the `with`."""
    proxy = BreakingProxy(target, every, times)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(10)
