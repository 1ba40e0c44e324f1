"""Uploads that are larger than they may be, and many at once: what they cost the server."""

import contextlib
import itertools
import select
import socket
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from server.settings import Settings
from tests.clips import write_clip
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import quantile, rss_bytes, served
from tests.server.conftest import QUICK, running

_MIB = 1024 * 1024
_SLACK_BYTES = 64 * 1024
_MAX_GROWN_BYTES = 16 * _MIB
_MAX_LAG_SECONDS = 0.05
_PADDING = _MIB.to_bytes(4, "big") + b"free" + bytes(_MIB - 8)  # a box that readers skip


@dataclass(slots=True)
class _Watched:
    """The most that was seen of a server at a time, of what a file in the making held and of its memory."""

    file_bytes: int = 0
    rss_bytes: int = 0


@contextmanager
def _watching(data: Path, pid: int | None) -> Generator[_Watched]:
    seen, is_over = _Watched(), threading.Event()

    def look() -> None:
        while not is_over.wait(0.005):
            for path in (data / "incoming").glob("*"):
                with contextlib.suppress(FileNotFoundError):
                    seen.file_bytes = max(seen.file_bytes, path.stat().st_size)
            seen.rss_bytes = max(seen.rss_bytes, rss_bytes(pid) if pid else 0)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def _too_large(is_full: bool) -> Figure:
    if not is_full:
        with running(Settings.model_validate(QUICK | {"max_upload_bytes": 3 * _MIB})) as server:
            data = server.services.settings.data_dir
            clip = write_clip(data / "clip.mp4").read_bytes()
            status, text, seen = _sent(server.url, clip, data, None, num_mib=12)
            return Figure(text, status == 413 and seen.file_bytes <= 3 * _MIB + _SLACK_BYTES)
    with served(is_fake=True) as program:
        pid = program.process.pid
        before = rss_bytes(pid)
        status, text, seen = _sent(program.url, program.clip, program.data, pid, num_mib=4096)
        grown = seen.rss_bytes - before
        lag = _lag(program.url, program.clip, count=8, num_mib=256)
    text += f", RSS {grown / _MIB:+.1f} MiB; during 8 uploads of 256 MiB live p99 {1000 * lag:.0f} ms"
    is_met = status == 413 and seen.file_bytes <= 1024 * _MIB + _SLACK_BYTES
    return Figure(text, is_met and grown <= _MAX_GROWN_BYTES and lag <= _MAX_LAG_SECONDS)


def _sent(url: str, clip: bytes, data: Path, pid: int | None, num_mib: int) -> tuple[int, str, _Watched]:
    """Send a video in chunks until it is refused; the status, what happened, and what was seen."""
    num_bytes, status = 0, 0
    with (
        _watching(data, pid) as seen,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as sock,
    ):
        sock.sendall(
            b"POST /v1/video/uploads HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):
            for piece in (clip, *itertools.repeat(_PADDING, num_mib)):
                if select.select([sock], [], [], 0)[0]:
                    break
                sock.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
                num_bytes += len(piece)
        sock.settimeout(10)
        status = int(sock.recv(4096)[9:12])
    text = f"{status} after {num_bytes / _MIB:.1f} MiB were sent and {seen.file_bytes / _MIB:.2f} MiB written"
    return status, text, seen


def _lag(url: str, clip: bytes, count: int, num_mib: int) -> float:
    """How long the server takes to say that it lives, at p99, while so many upload at once."""
    seconds: list[float] = []

    def upload(number: int) -> bytes:
        first = clip + (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
        length = len(first) + num_mib * _MIB
        head = f"POST /v1/video/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=120) as sock:
            for piece in (head.encode(), first, *[_PADDING] * num_mib):
                sock.sendall(piece)  # without a client's library, whose work would be measured, too
            return sock.recv(4096)

    with ThreadPoolExecutor(count) as threads, httpx.Client(base_url=url) as client:
        uploads = [threads.submit(upload, number) for number in range(count)]
        while not all(each.done() for each in uploads):
            begin = time.monotonic()
            assert client.get("/health/live").is_success
            seconds.append(time.monotonic() - begin)
            time.sleep(0.005)
        assert all(each.result().startswith(b"HTTP/1.1 200 ") for each in uploads)
    return quantile(seconds, 0.99)


GOALS = (
    Goal(
        "G16",
        "4 GiB in chunks at a limit of 1 GiB: 413, <= limit + 64 KiB written, RSS + <= 16 MiB; live p99 <= "
        "50 ms during 8 parallel uploads",
        _too_large,
    ),
)
