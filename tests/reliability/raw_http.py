"""Requests that are no HTTP, or hardly: none stops the server, and none is answered as a fault of ours."""

import random
import re
import select
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx

from server.settings import Settings
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import rss_bytes, served
from tests.server.conftest import QUICK, running

_SEED = 18
_BATCH = 1000
_THREADS = 8
_MOMENT_SECONDS = 0.03
_HOST = b"Host: localhost\r\n"
_PATHS = (
    b"/",
    b"/health/live",
    b"/v1/models",
    b"/v1/chat/completions",
    b"/v1/video/uploads",
    b"/v1/video/frames",
)
_TOKENS = (
    b"", b" ", b"\t", b"\0", b"\r", b"\n", b"\r\n", b"\x7f", b"\xff", b"%00", b"%", b"..", b"//", b"*", b"?",
    b"#", b":", b";", b",", b'"', b"-1", b"0x10", b"+5", b"9" * 30, b"a" * 300, b"A" * 20_000,
)  # fmt: skip
_METHODS = (
    b"GET",
    b"POST",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"PRI",
    b"get",
    b"G ET",
    b"G\0T",
)
_VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/1.",
    b"http/1.1",
    b"HTTP/11",
    b"XTTP/1.1",
    b"",
)
_LENGTHS = (
    b"-1",
    b"+1",
    b"1, 2",
    b"0x1",
    b"1e3",
    b"1_0",
    b"",
    b"9" * 40,
    b"5 5",
    "\N{SUPERSCRIPT TWO}".encode(),
)
_CODINGS = (
    b"chunked",
    b"chunked, chunked",
    b"gzip, chunked",
    b"identity",
    b"xchunked",
    b"chunked;q=1",
    b"\x0bchunked",
)
_CHUNKS = (
    b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhel", b"-5\r\nhello\r\n", b"g\r\n", b"5 \r\nhello\r\n",
    b"ffffffffffffffffffff\r\n", b"5;" + b"x" * 20_000 + b"\r\n", b"0\r\nx: y\r\n\r\n", b"5\nhello\n0\n\n",
    b"\r\n" * 50, b"5\r\nhelloXX0\r\n\r\n", b"00000000000000000000005\r\nhello\r\n0\r\n\r\n",
    b"0\r\n" + b"a: b\r\n" * 5000,
)  # fmt: skip


class _Requests:
    """A request in each of eight ways to be wrong, all that is drawn from one seed."""

    def __init__(self) -> None:
        self._random = random.Random(_SEED)
        self._ways = (
            self._line, self._header, self._headers, self._length, self._chunks, self._form, self._noise,
            self._pipeline,
        )  # fmt: skip

    def __call__(self) -> bytes:
        return self._random.choice(self._ways)()

    def _any(self, *values: bytes) -> bytes:
        return self._random.choice(values)

    def _line(self) -> bytes:
        target = self._any(*_PATHS) + self._any(*_TOKENS)
        space = self._any(b" ", b"  ", b"\t", b"")
        line = space.join((self._any(*_METHODS), target, self._any(*_VERSIONS)))
        return line + self._any(b"\r\n", b"\n", b"\r") + _HOST + b"\r\n"

    def _header(self) -> bytes:
        name, value = (
            self._any(b"x", b"Host", b"Content-Type", b"Authorization", b"Accept"),
            self._any(*_TOKENS),
        )
        line = (
            self._any(*_TOKENS, name)
            + self._any(b":", b" : ", b"", b": \x00")
            + value
            + self._any(b"\r\n", b"\n")
        )
        return (
            b"GET "
            + self._any(*_PATHS)
            + b" HTTP/1.1\r\n"
            + self._any(_HOST, b"", _HOST * 2)
            + line
            + b"\r\n"
        )

    def _headers(self) -> bytes:
        count = self._random.choice((0, 1, 90, 400, 3000))
        folded = self._any(b"", b" folded\r\n", b"\tfolded\r\n")
        return b"GET / HTTP/1.1\r\n" + _HOST + b"a: b\r\n" * count + folded + self._any(b"\r\n", b"")

    def _length(self) -> bytes:
        length = b"Content-Length: " + self._any(*_LENGTHS) + b"\r\n"
        more = self._any(b"", length, b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n")
        return self._post() + length + more + b"\r\n" + self._any(b"", b"hello", b"{}")

    def _chunks(self) -> bytes:
        coding = b"Transfer-Encoding: " + self._any(*_CODINGS) + b"\r\n"
        return (
            self._post()
            + coding
            + self._any(b"", coding)
            + b"\r\n"
            + self._any(*_CHUNKS)
            + self._any(*_CHUNKS)
        )

    def _form(self) -> bytes:
        boundary = self._any(b"x", b"", b'"x', b"x" * 300, *_TOKENS)
        part = (
            b"--"
            + self._any(boundary, b"x", b"")
            + b"\r\nContent-Disposition: form-data; name="
            + self._any(*_TOKENS)
        )
        body = part * self._random.choice((0, 1, 3, 50)) + self._any(
            b"\r\n\r\n", b"", b"--x--", b"\r\n--x--\r\n"
        )
        head = b"Content-Type: multipart/form-data; boundary=" + boundary + b"\r\n"
        return (
            b"POST /v1/video/uploads HTTP/1.1\r\n"
            + _HOST
            + head
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )

    def _noise(self) -> bytes:
        return self._random.randbytes(self._random.choice((1, 2, 16, 300, 20_000)))

    def _pipeline(self) -> bytes:
        return b"".join(
            self._any(b"GET /health/live HTTP/1.1\r\n" + _HOST + b"\r\n", self._line()) for _ in range(8)
        )

    def _post(self) -> bytes:
        return (
            b"POST " + self._any(*_PATHS) + b" HTTP/1.1\r\n" + _HOST + b"Content-Type: application/json\r\n"
        )


def _malformed(is_full: bool) -> Figure:
    if is_full:
        with served(is_fake=True) as program:
            rss = rss_bytes(program.process.pid)
            figure = _asked(program.url, 50_000)
            grown = (rss_bytes(program.process.pid) - rss) / 1e6
            num_traces = program.log.count("Traceback")
        text = f"{figure.text}, {num_traces} traces in the log, RSS {grown:+.0f} MB"
        return Figure(text, figure.is_met and not num_traces)
    with running(Settings.model_validate(QUICK)) as server:
        return _asked(server.url, 150)


def _asked(url: str, count: int) -> Figure:
    make, statuses, num_well = _Requests(), Counter[str](), 0
    begin = time.monotonic()
    num_batches = -(-count // _BATCH)
    ask = partial(_statuses, httpx.URL(url).port or 0)
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in range(num_batches):
            for found in threads.map(ask, [make() for _ in range(min(_BATCH, count))]):
                statuses.update(found)
            num_well += httpx.get(f"{url}/health/live", timeout=5).is_success
    num_faults = sum(number for status, number in statuses.items() if status[0] == "5" or status == "silent")
    shown = ", ".join(f"{number} x {status}" for status, number in sorted(statuses.items()))
    text = f"{count} in {time.monotonic() - begin:.0f} s: {shown}; {num_well} of {num_batches} times well"
    return Figure(text, not num_faults and num_well == num_batches)


def _statuses(port: int, request: bytes) -> list[str]:
    """Of all answers, until the server closes, or has no more to say for a moment and is told the same."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        try:
            sock.sendall(request)
            while select.select([sock], [], [], _MOMENT_SECONDS)[0] and (piece := sock.recv(65536)):
                answer += piece
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(65536):
                answer += piece
        except TimeoutError:
            return ["silent"]
        except OSError:  # reset: the server has closed while bytes were on their way
            pass
    found = re.findall(rb"^HTTP/1\.1 (\d{3}) ", answer, re.MULTILINE)
    return [status.decode() for status in found] or ["closed"]


GOALS = (
    Goal(
        "G18", "50,000 raw malformed requests: 0 x 5xx, 0 traces, live answers after each 1,000", _malformed
    ),
)
