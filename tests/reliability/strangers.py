"""Those without a right key: what they get, how much of them is read, and what the time tells them."""

import gc
import http.client
import random
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from starlette.types import Message, Scope

from server.keys.file import ApiKey, digest_of
from server.middleware.keys import OPEN_PATHS, KeyCheck
from server.settings import KeyLimits
from tests.reliability.admission import GATEWAY, shared
from tests.reliability.goal import Figure, Goal

_PATIENT = ("--wrong-keys-per-minute", "1000000000")
_MOST_READ = 64 * 1024
_MOST_T = 4.5  # Welch's, beyond which two times are told apart
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
_WRONG = (
    None, "Bearer", "Bearer ", "Bearer wrong-key-of-ours", f"Bearer {GATEWAY[:-1]}", f"Bearer {GATEWAY}x",
    f"Basic {GATEWAY}", f"bearer{GATEWAY}", f"Bearer {digest_of(GATEWAY).hex()}", "Bearer name:x",
)  # fmt: skip
_WAYS = (
    "/../../v1/models", "/..%2f..%2fv1/models", "/%2e%2e/%2e%2e/v1/models", ";/v1/models", "%00/v1/models",
    "/../v1/models", "\\..\\v1\\models", "?/v1/models", "#/v1/models",
)  # fmt: skip
_SPELLINGS = (
    "//v1/models", "/v1//models", "/v1/./models", "/%76%31/models", "/v1/models/", "/V1/MODELS",
    "/v1/models%2f", "/v1/models;a", "http://x/v1/models", "http://x/health/live/../../v1/models",
)  # fmt: skip


def bodies(is_full: bool) -> Figure:
    """Bodies of 300 MB, declared and in chunks, from clients that send whatever they are told."""
    program = shared(*_PATIENT)
    most = 0
    for _ in range(10 if is_full else 1):
        for path in ("/v1/video/uploads", "/v1/chat/completions", "/v1/video/frames"):
            for length in ("Content-Length: 300000000", "Transfer-Encoding: chunked"):
                before = _read_bytes(program.process.pid)
                assert _flood(program.port, path, length) == 401
                most = max(most, _read_bytes(program.process.pid) - before)
    return Figure(f"{most / 1024:.0f} KiB read of a body at most", is_met=most <= 2 * _MOST_READ)


def routes(is_full: bool) -> Figure:
    """Every path, method and kind of wrong key; and paths and hosts that mean something else to somebody."""
    program = shared(*_PATIENT)
    with program.client() as client:
        paths = [
            path.replace("{", "").replace("}", "") for path in client.get("/openapi.json").json()["paths"]
        ]
    wrong, count = list[str](), 0
    connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=20)
    for path in [*paths, "/v1/nothing", "/metrics", "/version", "/v1"]:
        if path in OPEN_PATHS:
            continue
        for method in _METHODS if is_full else ("GET", "POST"):
            for key in _WRONG if is_full else _WRONG[:4]:
                count += 1
                status = _status(connection, method, path, key)
                wrong += [f"{method} {path} {key} {status}"] if status != 401 else []
    tricks = list(_tricks())
    let_in = [shown for shown in tricks if b'{"object":"list"' in _raw(program.port, shown)]
    rate, t = _welch(KeyCheck, 100_000 if is_full else 4000)
    text = (
        f"{count} requests, {len(wrong)} not 401{': ' + wrong[0] if wrong else ''}; {len(let_in)} of "
        f"{len(tricks)} tricks let in; t = {t:.2f} of {rate} times"
    )
    return Figure(text, is_met=not wrong and not let_in and abs(t) < _MOST_T)


class _EarlyExit(KeyCheck):
    """Compares character by character, up to the first that differs."""

    def _find(self, header: str) -> ApiKey | None:
        given = header.removeprefix("Bearer ")
        for mine, theirs in zip(given, GATEWAY, strict=False):
            if mine != theirs:
                break
        return None


def early_exit(is_full: bool) -> Figure:
    """A comparison that ends where the keys differ."""
    _, t = _welch(_EarlyExit, 100_000 if is_full else 4000)
    return Figure(f"t = {t:.1f}", is_met=abs(t) < _MOST_T)


def _flood(port: int, path: str, length: str) -> int:
    """Send without end; the status that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n\r\n".encode())
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n" if "chunked" in length else bytes(65536)
        try:
            for _ in range(300_000_000 // 65536):
                connection.sendall(chunk)
        except OSError:
            pass  # closed: the answer lies in the buffer
        return int(connection.recv(65536).split()[1])


def _read_bytes(pid: int) -> int:
    """What a process has read from files and sockets."""
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def _status(connection: http.client.HTTPConnection, method: str, path: str, key: str | None) -> int:
    connection.request(method, path, headers={"Authorization": key} if key is not None else {})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _tricks() -> Iterator[bytes]:
    """Requests for the list of models that look like requests for what is open."""
    for path in (
        "/health/live",
        "/health/ready",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/static-offline-docs/x",
    ):
        for way in _WAYS:
            yield _get(path + way)
        for host in (f"x{path}?", f"x{path}#", f"{path}", f"x/..{path}"):
            yield _get("/v1/models", host)
        yield _get("/v1/models", more=f"X-Original-URL: {path}\r\nX-Rewrite-URL: {path}\r\n")
        yield _get("/v1/models", more=f"X-Forwarded-Prefix: {path}\r\n")
    for path in _SPELLINGS:
        yield _get(path)
    for lines in ("Authorization: Bearer\r\nAuthorization: Bearer x", "Authorization:", "authorization : x"):
        yield _get("/v1/models", more=f"{lines}\r\n")


def _get(path: str, host: str = "x", more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n".encode("latin-1")


def _raw(port: int, content: bytes) -> bytes:
    """All that the server says."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(content)
        while piece := connection.recv(65536):
            said += piece
    return said


def _welch(kind: Callable[..., KeyCheck], count: int) -> tuple[int, float]:
    """How well time tells a key with no character of the right one from one with all but the last."""
    check = kind(_nobody, [ApiKey(digest_of(GATEWAY), "name:x", KeyLimits())], 10**9)
    draw = random.Random(0)
    times: tuple[list[int], list[int]] = ([], [])
    headers = [f"Bearer {key}".encode() for key in ("#" * len(GATEWAY), f"{GATEWAY[:-1]}#")]
    gc.disable()
    try:
        for _ in range(count):
            number = draw.randrange(2)
            key = [(b"authorization", headers[number])]
            scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": key}
            begin = time.perf_counter_ns()
            _run(check(scope, _never, _dropped))
            times[number].append(time.perf_counter_ns() - begin)
    finally:
        gc.enable()
    # the slowest tell of other processes
    most = sorted([*times[0], *times[1]])[int(0.9 * count)]
    return count, _t(*([each for each in kind if each <= most] for kind in times))


def _t(first: Sequence[int], second: Sequence[int]) -> float:
    return (fmean(first) - fmean(second)) / sqrt(
        variance(first) / len(first) + variance(second) / len(second)
    )


def _run(work: Coroutine[Any, Any, None]) -> None:
    """To its end, as nothing in it waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


async def _nobody(scope: Scope, receive: Any, send: Any) -> None:
    raise AssertionError("a wrong key was let in")


async def _never() -> Message:
    raise AssertionError("the body was read")


async def _dropped(message: Message) -> None:
    del message


GOALS = (
    Goal("G15", "<= 64 KiB of a body without a right key are read beyond the first read", bodies),
    Goal("G21", "every path and method 401 with any wrong key; no trick let in; Welch's |t| < 4.5", routes),
    Goal("G21, early exit", "is caught: a comparison that ends early", early_exit, is_control=True),
)
