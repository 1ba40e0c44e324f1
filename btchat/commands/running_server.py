"""A server in a separate process, for the demo, the benchmarks and the tests."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bt_model.errors import BtchatError, InvalidValueError, explain

START_SECONDS = 120.0
STOP_SECONDS = 45.0
POLL_SECONDS = 0.1
REPORT_SECONDS = 5.0
STDERR = 2


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A ready server's URL and process."""

    url: str
    process: subprocess.Popen[bytes]


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_server(
    data_dir: Path,
    *,
    port: int | None = None,
    model: str = "embedded",
    settings: Mapping[str, str] | None = None,
    report: Callable[[str], object] | None = None,
    is_foreground: bool = True,
) -> Generator[RunningServer]:
    """Start `python -m server`, wait until it is ready, and stop it at the end.

    `settings` are BTCHAT_* variables without their prefix, in lower case; `report` is told now and then that
    it still starts. Ctrl-C on the terminal reaches a server in the foreground.

    Raises:
        BtchatError: the port is taken, the process ended, or was not ready in time.
    """
    chosen = port or free_port()
    _require_free(chosen)
    values = {"port": str(chosen), "data_dir": str(data_dir), "model": model, **(settings or {})}
    environment = {**os.environ, **{f"BTCHAT_{name.upper()}": value for name, value in values.items()}}
    # the server's log goes to stderr: stdout is for the caller's own output
    group = None if is_foreground else 0
    command = [sys.executable, "-m", "server"]
    process = subprocess.Popen(command, env=environment, stdout=STDERR, process_group=group)
    try:
        url = f"http://127.0.0.1:{chosen}"
        _wait_until_ready(url, process, report)
        yield RunningServer(url, process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _require_free(port: int) -> None:
    """Otherwise whoever listens there would be taken for the server that is to start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            text = f"port is {port}: {explain(error)}; choose another one"
            raise InvalidValueError(text, param="port") from error


def _wait_until_ready(
    url: str, process: subprocess.Popen[bytes], report: Callable[[str], object] | None
) -> None:
    begin = reported = time.monotonic()
    while (now := time.monotonic()) < begin + START_SECONDS:
        if process.poll() is not None:
            raise BtchatError(f"the server ended with code {process.returncode} before it was ready")
        try:
            if httpx.get(f"{url}/health/ready", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        if report is not None and now - reported >= REPORT_SECONDS:
            report(f"still starting, {now - begin:.0f} s")
            reported = now
        time.sleep(POLL_SECONDS)
    raise BtchatError(f"the server was not ready after {START_SECONDS:g} seconds")
