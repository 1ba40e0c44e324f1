"""Who gives way when there are too many connections."""

import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from server.settings import Settings
from tests.server.conftest import QUICK, running

UNSENT = b"POST /v1/video/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
HALF = b"GET /health/live HTTP/1.1\r\nHost: "


@contextmanager
def opened(url: str, request: bytes, count: int) -> Generator[list[socket.socket]]:
    """So many connections on which this was sent, and answered where it can be."""
    address = httpx.URL(url)
    with ExitStack() as stack:
        connections = list[socket.socket]()
        for _ in range(count):
            connection = socket.create_connection((address.host, address.port or 0), timeout=20)
            connections.append(stack.enter_context(connection))
            connection.sendall(request)
            if request is UNSENT:
                assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        yield connections


@pytest.mark.parametrize("request_", [UNSENT, HALF])
def test_who_waits_for_nothing_but_its_client_gives_way(tmp_path: Path, request_: bytes) -> None:
    (tmp_path / "keys").write_text("a key of some length\n")
    values = {"data_dir": tmp_path / "data", "api_keys_file": tmp_path / "keys", "max_connections": 5}
    with running(Settings.model_validate(QUICK | values)) as server, opened(server.url, request_, 5):
        answer = httpx.get(f"{server.url}/openapi.json")
        assert answer.status_code == 200
