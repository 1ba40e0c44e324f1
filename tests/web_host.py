"""A host of the web: an https server in threads, which remembers what it was asked for."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trustme

Answer = Iterable[bytes]
"""What is sent, piece by piece: status line, headers, body."""


def response(
    body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None
) -> list[bytes]:
    """An answer in one piece, which declares its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return ["\r\n".join([*lines, "", ""]).encode("latin-1") + body]


def redirect(location: str) -> list[bytes]:
    return response(b"", f"Location: {location}", "Set-Cookie: a=b", status="302 Found")


@dataclass(slots=True)
class WebHost:
    """Gives its answers in turn, the last again and again, whatever it is asked for."""

    port: int
    answers: Sequence[Callable[[], Answer]] = ()
    heads: list[str] = field(default_factory=list[str])
    num_sent: int = 0  # bytes of the last answer

    def will_send(self, *answers: Callable[[], Answer]) -> None:
        """From now on these, which are made when they are sent."""
        self.answers = answers
        self.heads.clear()

    def serve(self, listener: socket.socket, tls: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=self._answer, args=(sock, tls), daemon=True).start()

    def _answer(self, sock: socket.socket, tls: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError), tls.wrap_socket(sock, server_side=True) as stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (more := stream.recv(4096)):
                    return
                head += more
            self.heads.append(head.decode("ascii"))
            answer = self.answers[min(len(self.heads), len(self.answers)) - 1]
            self.num_sent = 0
            for piece in answer():
                stream.sendall(piece)
                self.num_sent += len(piece)


@contextmanager
def web_host(
    authority: trustme.CA, names: Iterable[str], address: tuple[str, int] = ("127.0.0.1", 0)
) -> Generator[WebHost]:
    """A host with a certificate of these names; `::` is every address of this machine."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(tls)
    is_all = address[0] == "::"
    family = socket.AF_INET6 if is_all else socket.AF_INET
    with socket.create_server(address, family=family, dualstack_ipv6=is_all, backlog=64) as listener:
        host = WebHost(listener.getsockname()[1])
        threading.Thread(target=host.serve, args=(listener, tls), daemon=True).start()
        yield host
        listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
