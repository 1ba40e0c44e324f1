"""Connections: clients that hold them end in time, bare and behind nginx, and never keep others out."""

import math
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx

from server.settings import Settings
from tests.leaks import no_leaks
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import quantile, served, until
from tests.reliability.slow_clients import SlowClients, kinds, traffic
from tests.server.conftest import QUICK, running
from tests.server.test_main import fake_program, free_port, succeeds

NGINX = Path(__file__).parents[2] / "docker" / "nginx.conf"
_SLACK_SECONDS = 0.5  # between a client's clock and the server's
_QUICK = QUICK | {"header_seconds": 0.5, "body_idle_seconds": 0.5, "stream_stall_seconds": 0.5}


def _slow_clients(is_full: bool) -> Figure:
    if not is_full:
        with running(Settings.model_validate(_QUICK)) as server, no_leaks():
            return _held(server.url, (10, 5, 5, 8), seconds=(0.5, 0.5, 0.5), slack=3)
    with served(is_fake=True) as program:
        figures: list[Figure] = []
        for before in (nullcontext, proxied):
            with no_leaks(program.process.pid), before(program.url) as url:
                figures.append(_held(url, (500, 100, 100, 200), seconds=(10, 15, 30), slack=1, ratio=1.5))
    text = "; ".join(f"{name}: {each.text}" for name, each in zip(("bare", "nginx"), figures, strict=True))
    return Figure(text, all(figure.is_met for figure in figures))


def _held(
    url: str,
    counts: tuple[int, int, int, int],
    seconds: tuple[float, float, float],
    slack: float,
    ratio: float = math.inf,
) -> Figure:
    """Slow clients of every kind, so many of each, and one like any other before and beside them."""
    header, body, stall = seconds
    with traffic(url) as alone:
        time.sleep(stall / 2)
    clients = SlowClients(httpx.URL(url).port or 0)
    with traffic(url) as beside:
        for kind, count in zip(kinds(header / 5).values(), counts, strict=True):
            clients.open(kind, count)
        clients.watch(stall + 5)
    left = clients.num_held
    clients.close()
    longest = {name: max(waits, default=0) for name, waits in clients.seconds.items()}
    is_met = all(
        most <= end + slack for most, end in zip(longest.values(), (header, body, body, stall), strict=True)
    )
    p99 = [1000 * quantile(each.seconds, 0.99) for each in (alone, beside)]
    is_met &= p99[1] <= ratio * p99[0] and left == alone.num_failed == beside.num_failed == 0
    shown = ", ".join(f"{name} {most:.1f} s" for name, most in longest.items())
    others = f"{beside.num_failed} of others failed, their p99 {p99[0]:.0f} -> {p99[1]:.0f} ms"
    return Figure(f"{shown}, {left} left; {others}", is_met)


def _half_open(is_full: bool) -> Figure:
    """More half-open headers than there are descriptors, opened again whenever they are closed."""
    if not is_full:
        with running(Settings.model_validate(QUICK | {"max_connections": 200})) as server:
            return _attacked(server.url, num_clients=300, most=200, seconds=0.5)
    with _few_descriptors(1024) as (url, log):
        num_lines = -log.read_bytes().count(b"\n")
        figure = _attacked(url, num_clients=1100, most=1024, seconds=25)
        num_lines += log.read_bytes().count(b"\n")
    return Figure(f"{figure.text}, {num_lines} log lines", figure.is_met and num_lines <= 100)


def _attacked(url: str, num_clients: int, most: int, seconds: float) -> Figure:
    clients, header = SlowClients(httpx.URL(url).port or 0), kinds(1.0)["header"]
    with traffic(url, pause=seconds / 40) as during:
        for _ in range(10):
            clients.open(header, num_clients - clients.num_held)
            clients.watch(seconds / 10)
    num_held = clients.num_held
    clients.close()
    slowest, num_failed = max(during.seconds), during.num_failed
    num_asked = 2 * len(during.seconds)
    text = f"{num_failed} of {num_asked} requests failed, slowest {slowest:.2f} s, {num_held} still open"
    return Figure(text, num_failed == 0 and slowest < 5 and num_held <= most)


@contextmanager
def _few_descriptors(most: int) -> Generator[tuple[str, Path]]:
    """A server that may have no more, and its log."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name, (Path(name) / "log").open("wb") as log:
        command = ["sh", "-c", f'ulimit -n {most} && exec "$@"', "sh"]
        process = subprocess.Popen([*command, *fake_program(Path(name) / "data", port=port)], stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            with httpx.Client(base_url=url) as client:
                assert until(lambda: succeeds(client, "/health/ready"), 60) < 60
            yield url, Path(log.name)
        finally:
            process.kill()
            process.wait()


@contextmanager
def proxied(url: str, log: Path | None = None) -> Generator[str]:
    """The address of an nginx before a server, as `docker/nginx.conf` says; its log may be kept."""
    port = free_port()
    text = NGINX.read_text(encoding="utf-8")
    for given, here in (
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
        ("127.0.0.1:8000", httpx.URL(url).netloc.decode()),
    ):
        assert given in text
        text = text.replace(given, here)
    with tempfile.TemporaryDirectory() as name:
        Path(name, "nginx.conf").write_text(text, encoding="utf-8")
        more = f"daemon off; pid {name}/pid;"
        with (log or Path(name, "log")).open("wb") as out:
            process = subprocess.Popen(["nginx", "-c", f"{name}/nginx.conf", "-g", more], stdout=out)
        address = f"http://127.0.0.1:{port}"
        try:
            with httpx.Client(base_url=address) as client:
                assert until(lambda: succeeds(client, "/health/live")) < 10
            yield address
        finally:
            process.terminate()
            process.wait(10)


GOALS = (
    Goal(
        "G14",
        "500 slow headers, 200 slow bodies, 200 stalled readers, bare and behind nginx: closed within a "
        "second of 10, 15, 30 s; p99 of others <= 1.5 x; 0 descriptors left",
        _slow_clients,
    ),
    Goal(
        "half-open headers",
        "1,100 at 1,024 descriptors, 25 s: live and chat answer throughout, <= 100 log lines",
        _half_open,
    ),
)
